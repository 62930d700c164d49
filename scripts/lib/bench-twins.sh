# The kernel's traffic beside a flood; sourced by scripts/bench for `scripts/bench twins`. See docs/guide/benchmarks.md.
# shellcheck shell=bash

FLOOD_PORT=7777

lab() { "$SCRIPTS/lab" "$@"; }
status() { lab ctl status --json | jq -r "$1"; }

# A generator in the client's namespace: datagrams to a service, as fast as the client's interface takes them.
start_flood() {
    local mac
    mac=$(lab exec director -- cat /sys/class/net/veth-front/address)
    # Its standard input stays open: it ends where that does.
    (sleep "$1" | lab exec client -- dpdk-testpmd --lcores "0@${CPUS[0]},1@${CPUS[0]}" --no-pci --no-huge -m 256 \
        --no-telemetry --file-prefix="flood-$$" --vdev=net_af_packet0,iface=eth0 -- \
        --forward-mode=txonly --auto-start --total-num-mbufs=4096 --eth-peer="0,$mac" \
        --tx-ip="192.168.18.10,192.168.18.58" --tx-udp="5000,$FLOOD_PORT") >"$WORK/flood.log" 2>&1 &
    FLOOD=$!
}

# counters: what the client's interface has sent, then what the director's port got of it and lost for want of room.
counters() {
    lab exec client -- cat /sys/class/net/eth0/statistics/tx_packets
    status '.ports[] | select(.name == "front") | .rx_packets, .missed'
}

# pings NODE ADDRESS COUNT: how many were answered.
pings() {
    lab exec "$1" -- ping -q -c "$3" -i 0.01 -W 2 "$2" | sed -n 's/.* \([0-9]*\) received.*/\1/p'
}

# checks COUNT: requests of the director's own namespace to a server, ten a second; how many were answered at once.
checks() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    lab exec director -- sh -c '
        for i in $(seq '"$1"'); do curl -s --max-time 1 http://192.168.2.72:9999/ || true; sleep 0.1; done
    ' | grep -c '^This is' || true
}

# shown WHAT ANSWERED OF
shown() {
    awk -v what="$1" -v got="$2" -v of="$3" \
        'BEGIN { printf "%-62s %6d of %6d lost (%.2f %%)\n", what, of - got, of, (of - got) / of * 100 }'
}

# measure WHAT SECONDS
measure() {
    local before after count=$(($2 * 100)) turns=$(($2 * 8))
    mapfile -t before < <(counters)
    pings client 192.168.18.58 "$count" >"$WORK/front" &
    local front=$!
    pings director 192.168.2.71 "$count" >"$WORK/back" &
    local back=$!
    checks "$turns" >"$WORK/checks"
    wait "$front" "$back"
    mapfile -t after < <(counters)
    echo "$1"
    awk -v sent=$((after[0] - before[0])) -v got=$((after[1] - before[1])) -v seconds="$2" 'BEGIN {
        printf "  %.2f M packets offered to the port, %.2f M received from it\n", sent / 1e6, got / 1e6 }'
    shown "  pings by a client, on the port of the flood" "$(cat "$WORK/front")" "$count"
    shown "  pings by the director to a server, on the other port" "$(cat "$WORK/back")" "$count"
    shown "  health checks by HTTP, on the other port" "$(cat "$WORK/checks")" "$turns"
}

# bench_twins [SECONDS]
bench_twins() {
    local seconds=${1:-10}
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "scripts/bench twins [SECONDS]"
    need_root
    mapfile -t CPUS < <(allowed_cpus)
    WORK=$(mktemp -d)
    FLOOD=
    export LAB=bench-twins-$$
    DIRECTOR_BIN=$(binaries)
    export DIRECTOR_BIN
    trap '[ -z "$FLOOD" ] || kill "$FLOOD" 2>/dev/null || true; lab down; rm -rf "$WORK"' EXIT
    lab config | sed 's/^idle = .*/idle = "poll"/' >"$WORK/director.toml"
    lab up --config "$WORK/director.toml"
    lab ipvsadm -A -u 192.168.18.58:$FLOOD_PORT -s rr
    lab ipvsadm -a -u 192.168.18.58:$FLOOD_PORT -r 192.168.2.71:$FLOOD_PORT -m
    # What a server does with the flood is not measured.
    lab exec server1 -- nft -f - <<END
table netdev flood {
    chain in { type filter hook ingress device eth0 priority 0; udp dport $FLOOD_PORT drop; }
}
END
    measure "without a flood" "$seconds"
    start_flood $((seconds * 4 + 20))
    sleep 3
    measure "with one" "$seconds"
    echo "  dropped by the director: $(status '.drops | with_entries(select(.value > 0)) | tostring')"
}
