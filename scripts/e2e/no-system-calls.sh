#!/usr/bin/env bash
# A worker that polls makes no system call for packets of existing connections, nor while there are none.
source "$(dirname "$0")/../lib/e2e.sh"
source "$(dirname "$0")/../lib/replay.sh"

CONNECTIONS=64

# configuration DEVICE: the lab's, but without twins, with this device in front, and with a worker that polls.
configuration() {
    lab config | sed -n '1,/^capacity/p' | sed 's/^idle = .*/idle = "poll"/'
    printf '\n[ipvs]\nsloppy_tcp = true\n'
    port_in_file front "$1" "$VIP/24"
    port_in_file back net_null0,no-rx=1 "$BACK/24"
    neighbor_in_file 192.168.2.71 02:00:00:00:0d:01
    service_in_file "$SERVICE" 192.168.2.71:9999
}

# calls THREAD: the system calls that a thread of the director's makes in two seconds.
calls() {
    timeout --signal=INT 2 strace --quiet=all --output="$WORK/calls" --attach="$1" 2>"$WORK/strace" || true
    [ ! -s "$WORK/strace" ] || fail "strace: $(cat "$WORK/strace")"
    cat "$WORK/calls"
}

control() { cat "$STATE/director.pid"; }
worker() { grep -lE '^(rte-worker-|dpdk-worker)' "/proc/$(control)/task/"*/comm | cut -d/ -f5; }
sent() { status '.workers[0].tx_packets'; }
all_are_there() { [ "$(status .connections.active)" = "$CONNECTIONS" ]; }

replay_frames "$WORK/frames.pcap" $CONNECTIONS
configuration "net_pcap0,rx_pcap=$WORK/frames.pcap,infinite_rx=1" >"$WORK/director.toml"
up --config "$WORK/director.toml"
wait_until 5 all_are_there || fail "connections: $(status .connections)"
before=$(sent)
same "system calls of a worker that forwards" "" "$(calls "$(worker)")"
packets=$(($(sent) - before))
[ "$packets" -gt 100000 ] || fail "it sent only $packets packets meanwhile"
all_are_there || fail "connections: $(status .connections)"
[ -n "$(calls "$(control)")" ] || fail "of the control core strace should have seen some"

lab stop director
configuration net_null1,no-rx=1 >"$STATE/director.toml"
lab start director
same "system calls of a worker that waits" "" "$(calls "$(worker)")"
