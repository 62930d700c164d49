#!/usr/bin/env bash
# Labs run side by side, and however one ends, nothing of it is left; the next one clears what a killed one left.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

left() {
    ip netns list | grep "^$LAB-" || true
    pgrep --full --list-full "/var/lib/director-lab/$LAB/" || true
    [ ! -e "$STATE" ] || echo "$STATE"
    grep " $STATE" /proc/mounts || true
}
interfaces=$(ls /sys/class/net)

up
other=$LAB-other
lab --name "$other" up --servers 3
service tcp 2
same "this lab" "72 71" "$(get 2)"
same "the other has its own director, without a service" "" "$(lab --name "$other" ipvsadm -S -n)"
same "and its own servers" "This is 192.168.2.73." \
    "$(lab --name "$other" exec client -- curl -s --max-time 5 http://192.168.2.73:9999/)"
lab --name "$other" down
same "this lab, after the other's end" "72 71" "$(get 2)"
lab down
same "left after down" "" "$(left)"
lab down

# Killed in the middle of its coming up: the next one clears it.
"$SCRIPTS/lab" up >/dev/null 2>&1 &
pid=$!
sleep 0.4
kill -KILL $pid
wait $pid 2>/dev/null || true
up
service tcp 1
same "after a killed one" 71 "$(get 1)"

# Its director killed: down still works.
kill -KILL "$(cat "$STATE/director.pid")"
lab down
same "left after its director was killed" "" "$(left)"

# A director that does not start: up fails, shows why, and leaves nothing.
lab config | sed 's/veth-front/veth-nosuch/' >"$WORK/bad.toml"
code=0
answer=$(lab up --config "$WORK/bad.toml" 2>&1) || code=$?
[ $code -ne 0 ] || fail "up succeeded with a device that does not exist"
contains "the reason" "veth-nosuch" "$answer"
same "left after a failed up" "" "$(left)"

# Interrupted: as by ^C at a terminal.
setsid "$SCRIPTS/lab" demo >/dev/null 2>&1 &
demo=$!
demo_is_on() { [ -e "$STATE/director.pid" ]; }
wait_until 20 demo_is_on || fail "the demo did not begin"
sleep 1
kill -INT -- "-$demo" 2>/dev/null || kill -TERM "$demo"
wait $demo 2>/dev/null || true
same "left after an interrupted demo" "" "$(left)"
same "interfaces of the machine" "$interfaces" "$(ls /sys/class/net)"
