#!/usr/bin/env bash
# Servers that are clients of their own service, which needs hairpin_snat; and the director itself, which needs its kernel.
source "$(dirname "$0")/../lib/e2e.sh"

VIP6=2001:db8:18::58
{
    lab config
    service_in_file "$SERVICE" 192.168.2.71:9999 192.168.2.72:9999
    service_in_file "[$VIP6]:8888" "[2001:db8:2::71]:9999" "[2001:db8:2::72]:9999"
} >"$WORK/with.toml"
sed -Ei "s|\"$VIP/24\"|&, \"$VIP6/64\"|; s|\"$BACK/24\"|&, \"2001:db8:2::90/64\"|
    s|^scheduler = .*|&\nhairpin_snat = true|" "$WORK/with.toml"
up --config "$WORK/with.toml"
director sysctl -qw net.ipv6.conf.all.forwarding=1
for number in 1 2; do address6 server$number 2001:db8:2::7$number 2001:db8:2::90; done

# from SERVER COUNT [URL]: that many connections from a server to the service; who answered.
from() {
    server "$1" sh -c "for i in \$(seq $2); do curl -g -s --max-time 5 '${3:-$URL}/'; done" | server_digits
}

same "a server reaches both" "72 71 72 71 72 71" "$(from 1 6)"
same "the other one too" "72 71 72 71" "$(from 2 4)"
wait_until 10 server 1 ping -6 -c 1 -W 1 $VIP6 >/dev/null || fail "the VIP does not answer ping"
same "a server over IPv6" "72 71 72 71" "$(from 1 4 "http://[$VIP6]:8888")"
same "clients elsewhere are seen as ever" "72 71" "$(get 2)"
contains "the entries" "192.168.2.71" "$(ipvsadm -Lnc)"
same "of them" "10 2" "$(ipvsadm -Lnc | awk '$4 ~ /^192\.168\.2\./ { near++ } $4 ~ /^192\.168\.18\./ { far++ } END { print near, far }')"
seq 1 3000000 | head --bytes=20MB >"$STATE/files/20MB" || true
same "20 MB" "$(sha256sum <"$STATE/files/20MB")" "$(server 1 sh -c "curl -s $URL/files/20MB | sha256sum")"

# Many connections, several at once.
ok=$(server 1 sh -c "seq 1000 | xargs -P 8 -I{} curl -s -o /dev/null -w '%{http_code}\n' --max-time 10 '$URL/?{}'" | grep -c 200)
same "a thousand" 1000 "$ok"

# ipvsadm knows nothing of it, and leaves it.
ipvsadm -E -t "$SERVICE" -s wrr
same "after -E" 4 "$(from 1 4 | wc -w)"
# A service of ipvsadm's has it not: it fails as IPVS does.
ipvsadm -C
service tcp 2
refused server 1 curl -s --max-time 2 "$URL/"

# The director's own connections to the service are its kernel's.
refused director curl -s --max-time 2 "$URL/"
director nft "table ip own { chain output { type nat hook output priority -100;
    ip daddr $VIP tcp dport 8888 dnat to numgen inc mod 2 map {
        0 : 192.168.2.71 . 9999, 1 : 192.168.2.72 . 9999 }; }; }"
same "sent to the servers by it" "71 72 71 72" \
    "$(director sh -c "for i in 1 2 3 4; do curl -s --max-time 5 $URL/; done" | server_digits)"

# Ports that the kernel gives to its own connections are not taken.
lab stop director
DIRECTOR_ENDED=yes
director sysctl -qw net.ipv4.ip_local_port_range="32768 65535"
refused lab start director
contains "why" "net.ipv4.ip_local_reserved_ports=61000-65535" "$(cat "$STATE/director.log")"
director sysctl -qw net.ipv4.ip_local_reserved_ports=61000-65535
lab start director
DIRECTOR_ENDED=no
same "set apart" "72 71" "$(from 1 2)"
