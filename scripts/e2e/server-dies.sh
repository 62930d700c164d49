#!/usr/bin/env bash
# A server that dies fails only its own connections; the clients are told; it comes back and serves again.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2

# Its process dies: its connections are refused by itself, through the VIP.
lab stop server1
refusals=0
for _ in 1 2 3 4; do
    answer=$(client curl -sS --max-time 5 "$URL/" 2>&1) || {
        contains "a dead process" "Couldn't connect" "$answer"
        refusals=$((refusals + 1))
    }
done
same "of four connections, those refused" 2 "$refusals"
lab start server1
serves() { [ "$(get 2 | tr ' ' '\n' | sort | paste -sd' ')" = "71 72" ]; }
wait_until 5 serves || fail "server1 does not serve again"

# A connection through the director of the other server is untouched while a machine dies.
session
request
first=$ANSWER
if [ "$first" = 71 ]; then dead=2; else dead=1; fi
server $dead ip link set eth0 down
director ip neigh flush dev back
request
same "a connection of the living server" "$first" "$ANSWER"

# The machine does not answer ARP: after about 3 s the client hears "host unreachable" from the VIP.
unreachable() {
    client /usr/bin/python3 - <<END
import socket, time
IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000
for _ in range(2):  # one of two turns is the dead server's
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    s.settimeout(10)
    start = time.monotonic()
    try:
        s.connect(("$VIP", 8888))
    except OSError as error:
        seconds = time.monotonic() - start
        _, messages, _, _ = s.recvmsg(500, 500, MSG_ERRQUEUE)
        data = messages[0][2]
        print(data[5], data[6], socket.inet_ntoa(data[20:24]), "in time" if 1 < seconds < 6 else seconds)
END
}
same "what a client of the dead machine hears: ICMP 3/1" "3 1 $VIP in time" "$(unreachable)"
[ "$(status '.drops.neighbour_unreachable')" -ge 1 ] || fail "the drop is not counted: $(status .drops)"

# It comes back.
server $dead ip link set eth0 up
server $dead ip route replace default via $BACK
wait_until 10 serves || fail "the server is not used again"
request
same "the living server's connection, still" "$first" "$ANSWER"

# Nothing waits for ever: what was held for the neighbour has gone somewhere.
nothing_held() { [ "$(status .totals.held)" = 0 ]; }
wait_until 10 nothing_held || fail "packets are still held: $(status .totals)"
