#!/usr/bin/env bash
# A worker that has more than it can do keeps the kernel's traffic going: ping and health checks lose nothing.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"
source "$(dirname "$0")/../lib/replay.sh"

FLOOD=10.77.0.1
CONNECTIONS=1024
PINGS=1000
CHECKS=100

# The lab's, and two ports more: one by which the flood comes, and one by which it goes.
configuration() {
    lab config | sed 's/^idle = .*/idle = "poll"/'
    printf '\n[ipvs]\nsloppy_tcp = true\n'
    port_in_file flood "net_pcap0,rx_pcap=$WORK/frames.pcap,infinite_rx=1" "$FLOOD/24"
    port_in_file sink net_null0,no-rx=1 10.78.0.1/24
    neighbor_in_file 10.78.0.71 02:00:00:00:0d:01
    service_in_file "$FLOOD:8888" 10.78.0.71:9999
}

all_are_there() { [ "$(status .connections.active)" -ge "$CONNECTIONS" ]; }
flooded() { status '.ports[] | select(.name == "flood").rx_packets'; }

# pings NODE ADDRESS: how many of so many were answered.
pings() {
    lab exec "$1" -- ping -q -c $PINGS -i 0.005 -W 5 "$2" | sed -n 's/.* \([0-9]*\) received.*/\1/p'
}

# The flood goes on while the counters are read, one after the other.
totals_agree() {
    [ "$(status '.totals | .received - .sent - .to_twin - .dropped - .held | fabs < 100000')" = true ]
}

replay_frames "$WORK/frames.pcap" $CONNECTIONS 10.77.0.10 $FLOOD
configuration >"$WORK/director.toml"
up --config "$WORK/director.toml"
wait_until 10 all_are_there || fail "connections: $(status .connections)"
service tcp 2
before=$(flooded)

pings client $VIP >"$WORK/front" &
pings director 192.168.2.71 >"$WORK/back" &
answered=0
for _ in $(seq $CHECKS); do
    case $(director curl -s --max-time 5 http://192.168.2.72:9999/) in
        "This is 192.168.2.72.") answered=$((answered + 1)) ;;
    esac
done
wait

packets=$(($(flooded) - before))
say "meanwhile the worker had $packets packets of the flood"
[ "$packets" -gt 100000 ] || fail "that is no flood"
same "pings by a client that were answered" $PINGS "$(cat "$WORK/front")"
same "pings to a server that were answered" $PINGS "$(cat "$WORK/back")"
same "health checks that were answered" $CHECKS $answered
same "connections through the director" "72 71 72 71" "$(get 4)"
