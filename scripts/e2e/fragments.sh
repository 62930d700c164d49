#!/usr/bin/env bash
# Datagrams longer than a frame, both ways between real stacks: the director's ports are taps, which show it the
# fragments as they are (a packet socket is given them put together).
source "$(dirname "$0")/../lib/e2e.sh"

up_with 's/net_af_packet0,iface=veth-/net_tap_a,iface=tap-/; s/net_af_packet1,iface=veth-/net_tap_b,iface=tap-/'

# A bridge between each tap and its wire. It is to carry frames only: no ARP, no IPv6, and a MAC address on the tap
# that is not the port's, or the bridge would take the port's frames for its own.
for side in front back; do
    number=$([ "$side" = front ] && echo 1 || echo 2)
    director sh -ec "
        ip link add br-$side type bridge
        for name in br-$side tap-$side; do sysctl -qw net.ipv6.conf.\$name.disable_ipv6=1; done
        ip link set tap-$side address 02:00:00:00:0e:0$number
        ip link set tap-$side master br-$side
        ip link set veth-$side master br-$side
        ip link set br-$side arp off up
        ethtool -K tap-$side tx off sg off tso off gso off gro off >/dev/null 2>&1 || true"
done

# Servers that let their datagrams be split.
for number in 1 2; do
    server $number sysctl -qw net.ipv4.ip_no_pmtu_disc=1
    lab stop server$number
    lab start server$number
done
service udp 2

# talk LENGTH…: datagrams of these lengths from one port, each answered in full.
talk() {
    client /usr/bin/python3 - "$VIP" "$@" <<'END'
import socket
import sys

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
s.connect((sys.argv[1], 8888))
for length in map(int, sys.argv[2:]):
    data = bytes(at * 7 % 251 for at in range(length))
    s.send(data)
    _, _, echo = s.recv(65535).partition(b"\n")
    assert echo == data, (length, len(echo))
print("ok")
END
}

# That a datagram is in fragments on both wires.
capture server2 "$WORK/wire" -c 12 "ip[6:2] & 0x3fff != 0"
wire=$!
same "8,000 bytes, there and back, in fragments" ok "$(talk 8000)"
same "from one fragment to as many as there can be" ok "$(talk 10 1472 1473 2952 2953 8000 30000 65000)"
wait "$wire"
contains "fragments to the server" "$CLIENT" "$(cat "$WORK/wire")"
same "an entry for each socket" 2 "$(ipvsadm -Lnc | grep -c '^UDP')"

# A first fragment alone, and one that lies over another: nothing comes of them; about the first its sender is told
# after half a minute.
capture client "$WORK/late" -c 1 'icmp[0] == 11'
late=$!
before=$(status .drops.fragment_overlap)
client /usr/bin/python3 - "$CLIENT" "$VIP" <<'END'
import socket
import struct
import sys

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
source, destination = map(socket.inet_aton, sys.argv[1:])

def fragment(identification, offset, more, data):
    field = offset // 8 | more << 13
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(data), identification, field, 64, 17, 0, source, destination)
    raw.sendto(header + data, (sys.argv[2], 0))

udp = struct.pack(">HHHH", 5000, 8888, 8 + 64, 0)
fragment(7, 0, 1, udp + bytes(32))
fragment(8, 0, 1, udp + bytes(32))
fragment(8, 32, 0, bytes(40))
END
overlapped() { [ "$(status .drops.fragment_overlap)" -gt "$before" ]; }
wait_until 5 overlapped || fail "an overlap was not counted: $(status .drops)"
same "no entry of half a packet" 0 "$(ipvsadm -Lnc | grep -c ":5000 " || true)"

# A smaller MTU on one side: what may be split is, in either direction; what must not be is told.
director ip link set back mtu 1000
server 2 ip link set eth0 mtu 1000
server 1 ip link set eth0 mtu 1000
wait_until 5 mtus_are "[1500,1000]" || fail "the MTU is not followed"
same "1,400 bytes through an MTU of 1,000" ok "$(talk 1400 900 1472 8000)"
director ip link set back mtu 1500
director ip link set front mtu 1000
client ip link set eth0 mtu 1000
for number in 1 2; do server $number ip link set eth0 mtu 1500; done
wait_until 5 mtus_are "[1000,1500]" || fail "the MTU is not followed"
same "the other way" ok "$(talk 1400 900 1440 8000)"

wait "$late" || fail "nobody was told of a fragment that never came"
contains "of a packet that was never complete" "$VIP > $CLIENT: ICMP ip reassembly time exceeded" "$(cat "$WORK/late")"
