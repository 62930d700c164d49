#!/usr/bin/env bash
# SIGTERM and SIGINT end the director with status 0 and leave nothing: no twin, no socket, no rule. It starts again.
source "$(dirname "$0")/../lib/e2e.sh"

DIRECTOR_ENDED=yes
up
service tcp 2
same "it serves" "72 71" "$(get 2)"

ends_by() {
    local signal=$1
    kill "-$signal" "$(cat "$STATE/director.pid")"
    ended() { [ -s "$STATE/director.exit" ]; }
    wait_until 10 ended || fail "$signal did not end it within 10 s"
    same "exit status after $signal" 0 "$(cat "$STATE/director.exit")"
    same "interfaces left in its namespace" "lo veth-back veth-front" \
        "$(director ls /sys/class/net | sort | paste -sd' ')"
    same "what is left of its sockets" "" "$(director sh -c 'ls /run/director 2>/dev/null' || true)"
    same "rules left" "" "$(director nft list ruleset)"
    refused lab ctl status
    code=0
    answer=$(lab ipvsadm -Ln 2>&1) || code=$?
    [ $code -ne 0 ] || fail "ipvsadm succeeds without a director: $answer"
}

# Under load, and with a connection open.
client wrk --threads 1 --connections 50 --duration 4s "$URL/" >/dev/null 2>&1 &
load=$!
under_load() { [ "$(status .connections.active)" -ge 50 ]; }
wait_until 5 under_load || fail "no load: $(status .connections)"
ends_by TERM
wait $load || true

lab start director
same "a fresh director has no service" "" "$(ipvsadm -S -n)"
service tcp 2
same "it serves again" "72 71" "$(get 2)"
ends_by INT
