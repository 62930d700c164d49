#!/usr/bin/env bash
# Tunnelling: servers take the client's packets out of those that come to them, and answer the client directly.
source "$(dirname "$0")/../lib/e2e.sh"

SERVICE=$VIP:9999 # ports are not translated
URL=http://$SERVICE

# has_tunnel SERVER: its end of the tunnel, the VIP in it, and a way to clients that is not the director's.
has_tunnel() {
    # Not the kernel's driver: its module leaves an interface in every network namespace.
    server "$1" setsid /usr/bin/python3 "$SCRIPTS/lib/ipip-server.py" </dev/null >>"$STATE/server$1/ipip.log" 2>&1 &
    wait_until 5 is_made "$1" || fail "server$1 has no end of the tunnel: $(cat "$STATE/server$1/ipip.log")"
    server "$1" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ipip0.rp_filter=0
    server "$1" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
    server "$1" ip address add $VIP/32 dev ipip0
    server "$1" ip route replace 192.168.18.0/24 dev eth0
}

is_made() { server "$1" ip link set ipip0 up 2>/dev/null; }

VIP6=2001:db8:18::58
up_with "s|\"$VIP/24\"|&, \"$VIP6/64\", \"2001:db8:2::90/64\"|" --one-armed
has_tunnel 1
has_tunnel 2
ipvsadm -A -t "$SERVICE" -s rr
ipvsadm -a -t "$SERVICE" -r 192.168.2.71:9999 -i
ipvsadm -a -t "$SERVICE" -r 192.168.2.72:9999 -i
same "the listing" "\
  -> 192.168.2.71:9999            Tunnel  1      0          0         
  -> 192.168.2.72:9999            Tunnel  1      0          0         " "$(ipvsadm -Ln | tail -n 2)"
same "its tunnels" "ipip ipip" "$(ipvsadm -Ln --tun-info | awk '$1 == "->" && $3 == "Tunnel" { print $4 }' | xargs)"
saved=$(ipvsadm -S -n)
contains "saved" "-a -t $SERVICE -r 192.168.2.71:9999 -i -w 1" "$saved"
ipvsadm -C
ipvsadm -R <<<"$saved"

same "connections" "72 71 72 71 72 71" "$(get 6)"
same "their entries" "6 FIN_WAIT" "$(ipvsadm -Lnc | awk '$1 == "TCP" { print $3 }' | sort | uniq -c | xargs)"

# Full segments do not fit into the tunnel: the client learns its MTU from the director.
seq 1 3000000 | head --bytes=20MB >"$STATE/files/20MB" || true
sum=$(sha256sum <"$STATE/files/20MB")
client curl -s --max-time 60 -T - "$URL/uploads/20MB" <"$STATE/files/20MB"
same "an upload" "$sum" "$(cat "$STATE"/server[12]/uploads/20MB | sha256sum)"
contains "the path's MTU" "mtu 1480" "$(client ip route get $VIP)"
[ "$(status .drops.too_big)" -ge 1 ] || fail "nothing was too big: $(status .drops)"
same "a download" "$sum" "$(client sh -c "curl -s $URL/files/20MB | sha256sum")"

# Without "don't fragment" the director splits them.
client ip route flush cache
client sysctl -qw net.ipv4.ip_no_pmtu_disc=1
rm "$STATE"/server[12]/uploads/20MB
big=$(status .drops.too_big)
client curl -s --max-time 60 -T - "$URL/uploads/20MB" <"$STATE/files/20MB"
same "an upload in fragments" "$sum" "$(cat "$STATE"/server[12]/uploads/20MB | sha256sum)"
same "nothing more was too big" "$big" "$(status .drops.too_big)"

for kind in "gue --tun-port 6080" gre; do
    # shellcheck disable=SC2086
    message=$(ipvsadm -a -t "$SERVICE" -r 192.168.2.73:9999 -i --tun-type $kind 2>&1) && fail "$kind was taken"
    contains "the message" "Protocol not supported" "$message"
done
message=$(ipvsadm -a -t "$SERVICE" -r "[2001:db8:2::71]:9999" -i 2>&1) && fail "a server of the other family was taken"
contains "the message" "Operation not supported with specified address family" "$message"

# IPv6 in IPv6. The servers answer the client on their own link.
director sysctl -qw net.ipv6.conf.all.forwarding=1
address6 client 2001:db8:18::10 $VIP6
for number in 1 2; do
    address6 server$number 2001:db8:2::7$number 2001:db8:2::90
    server $number sysctl -qw net.ipv6.conf.ipip0.disable_ipv6=0
    server $number ip address add $VIP6/128 dev ipip0 nodad
    server $number ip -6 route replace 2001:db8:18::/64 dev eth0
done
client ip -6 route replace 2001:db8:2::/64 dev eth0
SERVICE6=[$VIP6]:9999
URL6=http://$SERVICE6
get6() { client sh -c "for i in \$(seq $1); do curl -g -s --max-time 5 '$URL6/'; done" | server_digits; }
wait_until 10 client ping -6 -c 1 -W 1 $VIP6 >/dev/null || fail "the VIP does not answer ping"
ipvsadm -A -t "$SERVICE6" -s rr
for number in 1 2; do ipvsadm -a -t "$SERVICE6" -r "[2001:db8:2::7$number]:9999" -i; done
contains "the listing of IPv6" "[2001:db8:2::71]:9999        Tunnel  1" "$(ipvsadm -Ln)"
same "connections over IPv6" "72 71 72 71" "$(get6 4)"
rm "$STATE"/server[12]/uploads/20MB
big=$(status .drops.too_big)
client curl -g -s --max-time 60 -T - "$URL6/uploads/20MB" <"$STATE/files/20MB"
same "an upload over IPv6" "$sum" "$(cat "$STATE"/server[12]/uploads/20MB | sha256sum)"
contains "the path's MTU of IPv6" "mtu 1460" "$(client ip -6 route get $VIP6)"
[ "$(status .drops.too_big)" -gt "$big" ] || fail "nothing was too big: $(status .drops)"
