#!/usr/bin/env bash
# Who starts the director and asks for it, as systemd does, is told when it forwards and when it ends (sd_notify(3)).
source "$(dirname "$0")/../lib/e2e.sh"

DIRECTOR_ENDED=yes
up
lab stop director

python3 - "$WORK/notify" >"$WORK/told" <<'END' &
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
listener.settimeout(60)
for _ in range(2):
    print(listener.recv(4096).decode(), flush=True)
END
listener=$!
wait_until 5 [ -S "$WORK/notify" ] || fail "there is no listener"

NOTIFY_SOCKET=$WORK/notify lab start director
told() { [ "$(cat "$WORK/told")" = "$1" ]; }
wait_until 5 told "READY=1" || fail "told at the start: $(cat "$WORK/told")"
lab stop director
wait $listener
same "told in all" "READY=1"$'\n'"STOPPING=1" "$(cat "$WORK/told")"
