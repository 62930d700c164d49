#!/usr/bin/env bash
# The interfaces under and over a port change or go: what is sent goes on or is counted, `status` says what is wrong and
# what mends it, and the director neither ends nor hangs.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 1
session
request

problem() { { lab ctl status >/dev/null; } 2>&1 || true; }
has_problem() { [[ $(problem) == *"$1"* ]]; }
forwards() { lab ctl status >/dev/null 2>&1; }

# The interface that a port is opened on goes down, and comes up again.
director ip link set veth-back down
wait_until 5 has_problem "opened on veth-back, which is down" || fail "down: $(problem)"
refused client curl -s --max-time 1 "$URL/"
[ "$(status .drops.port_down)" -ge 1 ] || fail "what cannot be sent is not counted: $(status .drops)"
director ip link set veth-back up
wait_until 5 forwards || fail "up again: $(problem)"
request
same "the old connection, when the interface is up again" 71 "$ANSWER"
same "a new one" 71 "$(get 1)"

# Its MTU is smaller than the twin's: what is larger is refused or split, and does not vanish.
director ip link set veth-back mtu 1000
has_mtu() { [ "$(status '.ports[] | select(.name == "back").mtu')" = "$1" ]; }
wait_until 5 has_mtu 1000 || fail "the MTU: $(status '.ports')"
head --bytes=1MB /dev/zero >"$STATE/files/zeros"
same "an upload" "" "$(client curl -sS --max-time 20 -T "$STATE/files/zeros" "$URL/uploads/zeros")"
same "all of it" 1000000 "$(stat -c %s "$STATE/server1/uploads/zeros")"
director ip link set veth-back mtu 1500

# A MAC address that is set on a twin is its port's from then on.
mac=02:00:00:00:00:aa
director ip link set front address $mac
has_mac() { [ "$(status '.ports[] | select(.name == "front").mac')" = $mac ]; }
wait_until 5 has_mac || fail "the MAC address: $(status '.ports')"
client ip neigh flush dev eth0
same "connections after the MAC address changed" "71 71" "$(get 2)"
same "the old connection" 71 "$(request && echo "$ANSWER")"
contains "the client's neighbour" $mac "$(client ip neigh show $VIP)"

# An interface that is renamed is heard by the kernel again, and stays so under its old name.
rename() {
    director ip link set "$1" down
    director ip link set "$1" name "$2"
    director ip link set "$2" up
}
rename veth-front wire
wait_until 5 has_problem "opened on veth-front, which was deleted or renamed" || fail "renamed: $(problem)"
rename wire veth-front
sleep 1
has_problem "opened on veth-front, which was deleted or renamed" || fail "renamed back: $(problem)"

# A twin that is deleted cannot come back, nor can an interface that another of its name replaces.
director ip link delete front
wait_until 5 has_problem "kernel twin front is missing" || fail "a deleted twin: $(problem)"
director ip link delete veth-back
wait_until 5 has_problem "opened on veth-back, which was deleted" || fail "a deleted interface: $(problem)"
director ip link add veth-back type veth peer name other
director ip link set veth-back up
sleep 1
has_problem "opened on veth-back, which was deleted" || fail "another interface of its name: $(problem)"
DIRECTOR_ENDED=yes
lab stop director
same "its exit status" 0 "$(cat "$STATE/director.exit")"
