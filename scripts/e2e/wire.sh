#!/usr/bin/env bash
# What a packet loses and keeps on its way through, as tcpdump sees it: addresses, ports, TTL and checksums change, nothing else.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 1
service udp 1
client ping -c 1 -W 2 $VIP >/dev/null
server 1 ping -c 1 -W 2 $BACK >/dev/null
gateway_mac() { lab exec "$1" -- ip -json neigh show "$2" | jq -r '.[0].lladdr'; }
front=$(gateway_mac client $VIP)
back=$(gateway_mac server1 $BACK)
# The nodes' own stacks shall not join in.
for node in client server1; do
    lab exec $node -- nft 'table ip quiet {
        chain input { type filter hook input priority 0; meta l4proto { tcp, udp } drop; }; }'
done

# frame SIDE PACKET: sends a packet, written with the words of frames.py, from client or server.
frame() {
    local node=client gateway=$front
    [ "$1" = client ] || node=server1 gateway=$back
    lab exec "$node" -- /usr/bin/python3 - "$SCRIPTS/lib" "$gateway" <<END
import socket, sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from frames import *
s = Side("$1")
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0))
out.send(bytes.fromhex(sys.argv[2].replace(":", "")) + out.getsockname()[4] + b"\x08\x00" + $2)
END
}

# seen SIDE PACKET: the one packet the other side sees for it, in tcpdump's words.
seen() {
    local node=server1 from="src host $CLIENT" listener
    [ "$1" = client ] || node=client from="src host $VIP"
    lab exec "$node" -- timeout 20 tcpdump -n -l -vvv -S -i eth0 -Q in -c 1 \
        "$from and (tcp or udp)" >"$WORK/seen" 2>"$WORK/tcpdump" &
    listener=$!
    wait_until 10 grep -q "listening on" "$WORK/tcpdump" || fail "tcpdump does not listen: $(cat "$WORK/tcpdump")"
    frame "$1" "$2"
    wait $listener || true
    sed -E 's/^[0-9:.]+ //; s/^ +//' "$WORK/seen" | paste -sd' '
}

# Each line: what | side | the packet | what tcpdump says on the other side.
cases() {
    cat <<'END'
a SYN with TOS, id, DF and options|client|s.ip(TCP, s.tcp(SYN, options=b"\x02\x04\x05\xb4\x01\x03\x03\x07"), fragment=0x4000)|IP \(tos 0x0, ttl 63, id 4660, offset 0, flags \[DF\], proto TCP \(6\), length 48\) 192.168.18.10.4000 > 192.168.2.71.9999: Flags \[S\], cksum 0x[0-9a-f]+ \(correct\), seq 1, win 8192, options \[mss 1460,nop,wscale 7\], length 0
data in the SYN|client|s.ip(TCP, s.tcp(SYN, b"hello", sport=4010))|.*192.168.18.10.4010 > 192.168.2.71.9999: Flags \[S\], cksum 0x[0-9a-f]+ \(correct\), seq 1:6, win 8192, length 5
an odd length|client|s.ip(TCP, s.tcp(ACK, b"x" * 333))|.*192.168.18.10.4000 > 192.168.2.71.9999: Flags \[.\], cksum 0x[0-9a-f]+ \(correct\), .*length 333
a reply|server|s.ip(TCP, s.tcp(SYN \| ACK))|IP \(tos 0x0, ttl 63, .*\) 192.168.18.58.8888 > 192.168.18.10.4000: Flags \[S.\], cksum 0x[0-9a-f]+ \(correct\), .*
IP options stay|client|s.ip(TCP, s.tcp(ACK), options=b"\x01" * 4)|.*options \(NOP,NOP,NOP,NOP\)\) 192.168.18.10.4000 > 192.168.2.71.9999: .*\(correct\).*
a bad TCP checksum stays bad|client|s.ip(TCP, s.tcp(ACK, checksum=0x1234))|.* > 192.168.2.71.9999: Flags \[.\], cksum 0x[0-9a-f]+ \(incorrect .*
a time to live of 2|client|s.ip(TCP, s.tcp(ACK), ttl=2)|IP \(tos 0x0, ttl 1, .*\) 192.168.18.10.4000 > 192.168.2.71.9999: .*
frames longer than the packet|client|s.ip(TCP, s.tcp(ACK)) + b"\0" * 40|.*length 40\) 192.168.18.10.4000 > 192.168.2.71.9999: .*\(correct\).*length 0
a datagram|client|s.ip(UDP, s.udp())|IP \(tos 0x0, ttl 63, .*, proto UDP \(17\), length 33\) 192.168.18.10.4000 > 192.168.2.71.9999: \[udp sum ok\] UDP, length 5
a datagram without a checksum gets one|client|s.ip(UDP, s.udp(checksum=0))|.* > 192.168.2.71.9999: \[udp sum ok\] UDP, length 5
a reply without a checksum gets one|server|s.ip(UDP, s.udp(checksum=0))|.*192.168.18.58.8888 > 192.168.18.10.4000: \[udp sum ok\] UDP, length 5
a bad UDP checksum stays bad|client|s.ip(UDP, s.udp(checksum=0x1234))|.* > 192.168.2.71.9999: \[bad udp cksum .*
a datagram without data|client|s.ip(UDP, s.udp(b""))|.* > 192.168.2.71.9999: \[udp sum ok\] UDP, length 0
END
}

while IFS='~' read -r what side packet expected; do
    matches "$what" "$expected" "$(seen "$side" "$packet")"
done < <(cases | sed 's/\\|/\x01/g; s/|/~/g; s/\x01/|/g')
