#!/usr/bin/env bash
# Malformed frames of every header at both ports, while traffic runs: no crash, no leak, every one counted.
# timeout: 240
source "$(dirname "$0")/../lib/e2e.sh"

MBUFS=2048
up_with "s/^mbufs = .*/mbufs = $MBUFS/"
service tcp 2
service udp 2
same "before" "72 71" "$(get 2)"
client ping -c 1 -W 2 $VIP >/dev/null
server 1 ping -c 1 -W 2 $BACK >/dev/null

# mac ADDRESS NODE…: the MAC address a node has resolved it to.
mac() {
    local address=$1
    shift
    lab exec "$@" -- ip -json neigh show "$address" | jq -r '.[0].lladdr'
}
front=$(mac $VIP client)
back=$(mac $BACK server1)
received() { status ".ports[] | select(.name == \"$1\") | .rx_packets + .missed"; }

# Of each kind more frames than there are packet buffers: one that leaked each time would end all traffic.
rounds=$((MBUFS + 100))
wait_until 5 totals_agree || fail "the totals do not agree before"
front_before=$(received front) back_before=$(received back) drops_before=$(status '[.drops[]] | add')

client sh -c "wrk --threads 1 --connections 50 --duration 40s --timeout 10s $URL/" >"$WORK/wrk" &
load=$!
client /usr/bin/python3 "$SCRIPTS/lib/frames.py" eth0 "$front" client $rounds >"$WORK/client" &
client_frames=$!
server 1 /usr/bin/python3 "$SCRIPTS/lib/frames.py" eth0 "$back" server $rounds >"$WORK/server" &
wait $!
wait $client_frames
wait $load || fail "wrk ended badly: $(cat "$WORK/wrk")"
say "sent $(cat "$WORK/client") to front and $(cat "$WORK/server") to back beside: $(grep 'requests in' "$WORK/wrk")"
if grep -qE "Socket errors|Non-2xx" "$WORK/wrk"; then fail "the traffic beside them suffered: $(cat "$WORK/wrk")"; fi

[ ! -e "$STATE/director.exit" ] || fail "the director ended with status $(cat "$STATE/director.exit")"
[ $(($(received front) - front_before)) -ge "$(cat "$WORK/client")" ] || fail "front did not count every frame"
[ $(($(received back) - back_before)) -ge "$(cat "$WORK/server")" ] || fail "back did not count every frame"
wait_until 5 totals_agree || fail "the totals do not agree: $(status .totals)"
[ "$(status '[.drops[]] | add')" -gt "$drops_before" ] || fail "no drop has been counted"
for reason in malformed_ipv4 ipv4_checksum malformed_transport martian_source; do
    [ "$(status .drops.$reason)" -ge $rounds ] || fail "$reason counts only $(status .drops.$reason)"
done
nothing_held() { [ "$(status .totals.held)" = 0 ]; }
wait_until 15 nothing_held || fail "packets are still held: $(status .totals)"

# Everything goes on as before.
ipvsadm -C
service tcp 2
service udp 2
same "after" "72 71 72 71" "$(get 4)"
same "after, UDP" "72 71" "$(udp_get 2)"
contains "after, ping" "0% packet loss" "$(client ping -c 2 -i 0.2 -W 2 $VIP)"
