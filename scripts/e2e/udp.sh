#!/usr/bin/env bash
# UDP: datagrams are balanced by their client's address and port, and replies come from the VIP.
source "$(dirname "$0")/../lib/e2e.sh"

up
service udp 2
same "six clients' ports take turns" "72 71 72 71 72 71" "$(udp_get 6)"

# One port, many datagrams: one server, one entry. The socket is connected, so only the VIP's replies count.
same "20 datagrams of one port, with and without a checksum, and up to a full frame" ok "$(client /usr/bin/python3 - <<END
import socket
SO_NO_CHECK = 11
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect(("$VIP", 8888))
servers = set()
for i in range(20):
    s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, i % 2)
    data = bytes([i]) * (i * 73)
    s.send(data)
    server, _, echo = s.recv(65535).partition(b"\n")
    assert echo == data, (i, len(echo))
    servers.add(server)
assert len(servers) == 1, servers
print("ok")
END
)"
same "its one entry and the six" 7 "$(ipvsadm -Lnc | grep -c '^UDP')"

# A server's own port unreachable reaches the client as the VIP's.
ipvsadm -d -u $SERVICE -r 192.168.2.72:9999
lab stop server1
same "a dead UDP service" refused "$(datagram $VIP 8888)"
