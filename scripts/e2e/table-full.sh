#!/usr/bin/env bash
# A full table: new connections are dropped as table_full, existing ones are untouched, and room that comes free is used.
source "$(dirname "$0")/../lib/e2e.sh"

up_with 's/^capacity = .*/capacity = 64/'
service tcp 2
capacity=$(status .connections.capacity)
[ "$capacity" -le 1024 ] || fail "a capacity of 64 became $capacity"

session
request
first=$ANSWER

# More connections than there is room for, all held open.
client /usr/bin/python3 - "$capacity" >"$WORK/connected" <<END
import socket, struct, sys, time
wanted = int(sys.argv[1]) + 50
sockets = []
for _ in range(wanted):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("$VIP", 8888))
    sockets.append(s)
def connected():
    count = 0
    for s in sockets:
        try:
            s.getpeername()
            count += 1
        except OSError:
            pass
    return count
deadline = time.monotonic() + 15
while connected() < wanted - 51 and time.monotonic() < deadline:
    time.sleep(0.1)
time.sleep(1)  # in which none may be added
print(connected(), flush=True)
for s in sockets:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()  # with lingering for 0 s: a RST
END
same "connections that got room" $((capacity - 1)) "$(cat "$WORK/connected")"
drops=$(status .drops.table_full)
[ "$drops" -ge 50 ] || fail "table_full counts $drops, of at least 50 refused"
same "entries" "$capacity" "$(status .connections.active)"
request
same "the connection that was there before" "$first" "$ANSWER"

# Those were reset at their client's end, so their entries go after 10 s.
room() { [ -n "$(get 1)" ]; }
wait_until 30 room || fail "no room after the others' end: $(status .connections)"
request
same "and still" "$first" "$ANSWER"
