#!/usr/bin/env bash
# sloppy_tcp: the middle of a connection nobody knows is scheduled, so it outlives a director that forgot it; else it is reset.
source "$(dirname "$0")/../lib/e2e.sh"

# held_over_a_restart: what the request on a connection gets whose director was started anew meanwhile.
# The first turn of rr is server2's before and after, so its connection can go on.
held_over_a_restart() {
    service tcp 2
    session
    request
    same "the connection's server" 72 "$ANSWER"
    lab stop director
    lab start director
    service tcp 2
    request
}

# shellcheck disable=SC2016 # sed's $, its last line
up_with '$a [ipvs]\nsloppy_tcp = true'
held_over_a_restart
same "with sloppy_tcp" 72 "$ANSWER"
matches "its entry" "ESTABLISHED 14:5[0-9]" "$(session_entry)"
kill "$SESSION_PID"
lab down

up
held_over_a_restart
same "without" "connection reset" "$ANSWER"
