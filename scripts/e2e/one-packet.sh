#!/usr/bin/env bash
# One-packet scheduling: each datagram goes to the next server, no entry is made, and replies come from the VIP.
source "$(dirname "$0")/../lib/e2e.sh"

up --servers 3
ipvsadm -A -u "$SERVICE" -s rr -o
for number in 1 2 3; do ipvsadm -a -u "$SERVICE" -r "192.168.2.7$number:9999" -m; done
same "the listing" "UDP  192.168.18.58:8888 rr ops" "$(ipvsadm -Ln | grep ^UDP)"
same "as saved" "-A -u 192.168.18.58:8888 -s rr -o" "$(ipvsadm -S -n | head -n 1)"
contains "the status" "rr ops" "$(lab ctl status)"
refused ipvsadm -A -t "$VIP:80" -s rr -o

# One socket, connected to the VIP: only the VIP's replies count.
same "each datagram takes its turn" "73 72 71 73 72 71" "$(client /usr/bin/python3 - <<END
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect(("$VIP", 8888))
answers = []
for i in range(6):
    s.send(b"x")
    server, _, _ = s.recv(65535).partition(b"\n")
    answers.append(server.decode().rstrip(".").rpartition(".")[2])
print(*answers)
END
)"
same "no entries" 0 "$(ipvsadm -Lnc | grep -c ^UDP || true)"
same "each is a connection" "UDP  192.168.18.58:8888 6 6 6" \
    "$(ipvsadm -Ln --stats | awk '/^UDP/ { print $1 "  " $2, $3, $4, $5 }')"

# Without -o an edit makes connections again.
ipvsadm -E -u "$SERVICE" -s rr
same "-E without -o" "UDP  192.168.18.58:8888 rr" "$(ipvsadm -Ln | grep ^UDP)"
udp_get 2 >/dev/null
same "entries" 2 "$(ipvsadm -Lnc | grep -c ^UDP)"
