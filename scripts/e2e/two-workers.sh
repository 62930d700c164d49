#!/usr/bin/env bash
# Two workers share the work, with a queue each or one between them, and rr is exact over both together.
# timeout: 240
source "$(dirname "$0")/../lib/e2e.sh"

# exact SERVERS CONNECTIONS: that many at once; each server has its share, to one.
exact() {
    local servers=$1 connections=$2 shares least most
    ipvsadm -C
    service tcp "$servers"
    ipvsadm -Z # a server that is added again brings its old counters with it
    client sh -c "ulimit -n 8192; wrk --threads 2 --connections $connections --duration 3s --timeout 5s $URL/" \
        >"$WORK/wrk"
    if grep -q "Socket errors" "$WORK/wrk"; then fail "wrk saw errors: $(cat "$WORK/wrk")"; fi
    sleep 2.5 # what --stats shows is up to 2 s old
    mapfile -t shares < <(ipvsadm -Ln --stats -t $SERVICE | awk '/9999/ { print $3 }' | sort -n)
    least=${shares[0]} most=${shares[-1]}
    [ $((most - least)) -le 1 ] || fail "$servers servers, not exactly shared: ${shares[*]}"
    [ "$least" -ge $((connections / servers)) ] || fail "not all were scheduled: ${shares[*]}"
}

run() {
    same "workers" 2 "$(status '.workers | length')"
    exact 3 200
    exact 4 1000
    get 20 >/dev/null
    same "both directions, one entry each" "" \
        "$(ipvsadm -Lnc | awk '/^TCP/ { print $4 }' | sort | uniq -d)"
    wait_until 5 totals_agree || fail "the totals do not agree: $(status .totals)"
}

lcores='s/^lcores = .*/lcores = "0@0,1@0,2@1"/'
[ "$(allowed_cpus | paste -sd' ')" != 0 ] || lcores='s/^lcores = .*/lcores = "0@0,1@0,2@0"/'

say "two queues a port: a worker polls one of each"
up_with "$lcores"'; s/(iface=veth-[a-z]*)/\1,qpairs=2/' --servers 4
run
same "both workers received" "true" "$(status '[.workers[].rx_packets > 100] | all')"
lab down

say "one queue a port: each port has one worker, which hands frames to the other"
up_with "$lcores" --servers 4
run
lab down

say "what the device is asked to look at: net_null has RSS in name, and not of one end alone"
up_with "$lcores"'; s/^device = "net_af_packet0.*/device = "net_null0,no-rx=1"\nrx_queues = 2\nside = "clients"/'
same "RSS of each port" "front clients both 2, back both none 1" \
    "$(status '[.ports[] | "\(.name) \(.side) \(.rss) \(.rx_queues)"] | join(", ")')"
contains "what is looked at" "ipv4-tcp" "$(status '.ports[0].rss_types')"
same "one end alone" "" "$(status '.ports[0] | [.rss_types, .rss_offered] | join(" ")' | grep -o '[a-z0-9-]*-only' || true)"
same "queues of a port with one for each worker" "front:0, front:1 back:0" \
    "$(status '[.workers[].queues | join(" ")] | join(", ")')"
