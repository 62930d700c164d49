#!/usr/bin/env bash
# IPv6 from end to end: addresses, neighbours and routes of the twins, TCP and UDP, ICMPv6, listings.
source "$(dirname "$0")/../lib/e2e.sh"

VIP6=2001:db8:18::58
SERVICE6=[$VIP6]:8888
URL6=http://$SERVICE6

get6() {
    client sh -c "for i in \$(seq $1); do curl -g -s --max-time 5 '$URL6/'; done" | server_digits
}

udp6_get() {
    client sh -c "for i in \$(seq $1); do echo | nc -6 -u -W 1 -w 3 $VIP6 8888; done" |
        sed -n 's/^This is 2001:db8:2::\([0-9]*\)\.$/\1/p' | paste -sd' '
}

# talk6 LENGTH…: datagrams of these lengths from one port, each answered in full; one that is lost is sent again, once.
talk6() {
    client /usr/bin/python3 - "$VIP6" "$@" <<'END'
import socket
import sys

s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect((sys.argv[1], 8888))
for length in map(int, sys.argv[2:]):
    data = bytes(at * 7 % 251 for at in range(length))
    for attempt in 1, 2:
        s.send(data)
        try:
            _, _, echo = s.recv(65535).partition(b"\n")
        except OSError:  # a time-out, or "message too long": the packet was too big
            if attempt == 2:
                raise
            continue
        assert echo == data, (length, len(echo))
        break
print("ok")
END
}

up_with "s|\"$VIP/24\"|&, \"$VIP6/64\"|; s|\"$BACK/24\"|&, \"2001:db8:2::90/64\"|"
director sysctl -qw net.ipv6.conf.all.forwarding=1
address6 client 2001:db8:18::10 $VIP6
for number in 1 2; do
    address6 server$number 2001:db8:2::7$number 2001:db8:2::90
    (server $number setsid /usr/bin/python3 "$SCRIPTS/lib/udp-server.py" 2001:db8:2::7$number 9999) </dev/null >/dev/null 2>&1 &
done

# The VIP is the kernel's as far as ping goes; its address is tentative for a second or two.
wait_until 10 client ping -6 -c 1 -W 1 $VIP6 >/dev/null || fail "the VIP does not answer ping"
wait_until 10 server 1 ping -6 -c 1 -W 1 2001:db8:2::90 >/dev/null || fail "nor the other side"

ipvsadm -A -t "$SERVICE6" -s rr
ipvsadm -a -t "$SERVICE6" -r "[2001:db8:2::71]:9999" -m
ipvsadm -a -t "$SERVICE6" -r "[2001:db8:2::72]:9999" -m
same "six connections take turns" "72 71 72 71 72 71" "$(get6 6)"
same "the listing" "TCP [2001:db8:18::58]:8888 rr
-> [2001:db8:2::71]:9999 Masq 1 0 3
-> [2001:db8:2::72]:9999 Masq 1 0 3" "$(ipvsadm -Ln | tail -n 3 | tr -s ' ' | sed 's/^ //; s/ $//')"
contains "-Lnc" "[2001:db8:18::58]:8888" "$(ipvsadm -Lnc)"
same "connections by family" "0 6" "$(status '.connections | "\(.active) \(.active_ipv6)"')"
same "what was saved" "-A -t [2001:db8:18::58]:8888 -s rr
-a -t [2001:db8:18::58]:8888 -r [2001:db8:2::71]:9999 -m -w 1
-a -t [2001:db8:18::58]:8888 -r [2001:db8:2::72]:9999 -m -w 1" "$(ipvsadm -Sn)"
refused ipvsadm -a -t "$SERVICE6" -r 192.168.2.71:9999 -m

# A transfer in each direction, of more than a window.
head --bytes=5MB /dev/urandom >"$STATE/files/random"
same "a download" 5000000 "$(client curl -g -s --max-time 20 -o /dev/null -w '%{size_download}' "$URL6/files/random")"
ipvsadm -d -t "$SERVICE6" -r "[2001:db8:2::72]:9999"
same "an upload" "" "$(client curl -g -sS --max-time 20 -T "$STATE/files/random" "$URL6/uploads/random")"
same "all of it" "$(sha256sum <"$STATE/files/random")" "$(sha256sum <"$STATE/server1/uploads/random")"

# A smaller MTU on either side: packet too big, to the client from the VIP, and to the server.
director ip link set back mtu 1400
wait_until 5 mtus_are "[1500,1400]" || fail "the MTU is not followed"
same "an upload through a smaller MTU" "" "$(client curl -g -sS --max-time 20 -T "$STATE/files/random" "$URL6/uploads/small")"
contains "path MTU the client learnt" "mtu 1400" "$(client ip -6 route get $VIP6)"
director ip link set back mtu 1500
# A client that has learnt one asks for less.
client ip -6 route flush cache
director ip link set front mtu 1400
wait_until 5 mtus_are "[1400,1500]" || fail "the MTU is not followed"
same "a download through a smaller MTU" 5000000 \
    "$(client curl -g -s --max-time 20 -o /dev/null -w '%{size_download}' "$URL6/files/random")"
contains "path MTU the server learnt" "mtu 1400" "$(server 1 ip -6 route get 2001:db8:18::10)"
director ip link set front mtu 1500
wait_until 5 mtus_are "[1500,1500]" || fail "the MTU is not followed"

# UDP, and an error of a server's translated for the client.
ipvsadm -A -u "$SERVICE6" -s rr
ipvsadm -a -u "$SERVICE6" -r "[2001:db8:2::71]:9999" -m
ipvsadm -a -u "$SERVICE6" -r "[2001:db8:2::72]:9999" -m
same "datagrams of four ports" "72 71 72 71" "$(udp6_get 4)"
ipvsadm -d -u "$SERVICE6" -r "[2001:db8:2::72]:9999"

# In fragments, on both wires; then through a smaller MTU, on either side: no router splits them, the sender is told.
capture server1 "$WORK/wire" -c 8 "ip6[6] == 44"
wire=$!
same "datagrams in fragments, both ways" ok "$(talk6 10 1452 1453 2900 8000 30000 60000)"
wait "$wire"
contains "fragments to the server" "2001:db8:18::10 >" "$(cat "$WORK/wire")"
contains "and from it" "> 2001:db8:18::10" "$(cat "$WORK/wire")"
director ip link set back mtu 1400
wait_until 5 mtus_are "[1500,1400]" || fail "the MTU is not followed"
client ip -6 route flush cache
same "fragments through a smaller MTU" ok "$(talk6 8000 8000)"
contains "path MTU the client learnt of a fragment" "mtu 1400" "$(client ip -6 route get $VIP6)"
director ip link set back mtu 1500
director ip link set front mtu 1400
wait_until 5 mtus_are "[1400,1500]" || fail "the MTU is not followed"
server 1 ip -6 route flush cache
same "and from the server" ok "$(talk6 8000 8000)"
director ip link set front mtu 1500
wait_until 5 mtus_are "[1500,1500]" || fail "the MTU is not followed"
ipvsadm -e -u "$SERVICE6" -r "[2001:db8:2::71]:9999" -m -w 0
ipvsadm -a -u "$SERVICE6" -r "[2001:db8:2::71]:9998" -m
same "a port nobody listens on" refused "$(datagram $VIP6 8888)"
# No server at all: the director itself says so.
ipvsadm -d -u "$SERVICE6" -r "[2001:db8:2::71]:9998"
same "no server" refused "$(datagram $VIP6 8888)"

# Persistence by a prefix; a mark of IPv6.
ipvsadm -C
ipvsadm -A -t "$SERVICE6" -s rr -p 60 -M 64
ipvsadm -a -t "$SERVICE6" -r "[2001:db8:2::71]:9999" -m
ipvsadm -a -t "$SERVICE6" -r "[2001:db8:2::72]:9999" -m
same "one client, one server" 72 "$(get6 4 | tr ' ' '\n' | sort -u)"
client ip address add 2001:db8:18::11/64 dev eth0 nodad
same "its neighbour in the prefix" "This is 192.168.2.72." \
    "$(client curl -g -s --max-time 5 --interface 2001:db8:18::11 "$URL6/")"
contains "the template" "[2001:db8:18::]:0" "$(ipvsadm -Lnc)"
ipvsadm -A -f 7 -6 -s rr
contains "a mark of IPv6" "FWM  7 IPv6 rr" "$(ipvsadm -Ln)"

# Both families at once.
service tcp 2
same "IPv4 beside it" "72 71" "$(get 2)"
