#!/usr/bin/env bash
# Traffic that is no service's passes through the kernel: to a server's own address, from a server, masqueraded.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2

same "a server's own address" "This is 192.168.2.71." "$(client curl -s --max-time 5 http://192.168.2.71:9999/)"
if ipvsadm -Lnc | grep '^TCP'; then fail "plain forwarding made an entry"; fi
contains "a server pings the client" "0% packet loss" "$(server 1 ping -c 2 -i 0.2 -W 2 $CLIENT)"
head --bytes=20MB /dev/zero >"$STATE/files/zeros"
same "20 MB by plain forwarding" 20000000 \
    "$(client curl -s --max-time 30 -o /dev/null -w '%{size_download}' http://192.168.2.71:9999/files/zeros)"

# outbound: server1 connects to the client; the address the client saw.
outbound() {
    client timeout 10 nc -nlvp 7777 >"$STATE/heard" 2>&1 </dev/null &
    wait_until 5 client_listens || fail "the client does not listen"
    server 1 sh -c "echo hello | nc -N -w 3 $CLIENT 7777"
    wait $!
    contains "what arrived" hello "$(cat "$STATE/heard")"
    sed -n 's/^Connection received on \([0-9.]*\) .*/\1/p' "$STATE/heard"
}
client_listens() { client ss -Hltn 'sport = 7777' | grep -q .; }

same "a server's outbound connection" 192.168.2.71 "$(outbound)"
director nft 'table ip nat { chain out { type nat hook postrouting priority srcnat; oifname "front" masquerade; }; }'
same "masqueraded" $VIP "$(outbound)"
contains "ping, masqueraded" "0% packet loss" "$(server 2 ping -c 2 -i 0.2 -W 2 $CLIENT)"
same "the service is none of the masquerading's business" "72 71" "$(get 2)"

director sysctl -qw net.ipv4.ip_forward=0
# Servers' replies are forwarding too, as for the kernel's IPVS.
wait_until 5 unanswered "$URL/" || fail "the service answers without ip_forward"
refused client curl -s --max-time 2 http://192.168.2.71:9999/
[ "$(status .drops.forwarding_off)" -ge 1 ] || fail "forwarding_off did not count: $(status .drops)"
