# Starting and stopping the lab's director; sourced by scripts/lab.
# shellcheck shell=bash

PID_FILE=$STATE/director.pid
LOG=$STATE/director.log
# Holds the exit status once the director has ended.
EXIT_FILE=$STATE/director.exit

# "CONTROL@CPU,WORKER@CPU": the first two CPUs we may use, or one for both.
lab_lcores() {
    local cpus
    mapfile -t cpus < <(allowed_cpus)
    printf '0@%d,1@%d\n' "${cpus[0]}" "${cpus[1]:-${cpus[0]}}"
}

# The lab's own configuration: ports and addresses, no service (those come by ipvsadm).
lab_configuration() {
    cat <<END
[dpdk]
lcores = "$(lab_lcores)"
mbufs = 16384
idle = "sleep" # a lab shares its CPUs; on a NIC of its own a worker polls busily
eal = ["--no-pci", "--no-huge", "-m", "512"]

[control]
directory = "/run/director"

[connections]
capacity = 100_000

END
    if [ "$1" = yes ]; then
        cat <<END
[[port]]
name = "front"
device = "net_af_packet0,iface=veth-front"
addresses = ["$VIP/24", "$BACK_ADDRESS/24"]
END
    else
        cat <<END
[[port]]
name = "front"
device = "net_af_packet0,iface=veth-front"
addresses = ["$VIP/24"]

[[port]]
name = "back"
device = "net_af_packet1,iface=veth-back"
addresses = ["$BACK_ADDRESS/24"]
END
    fi
}

# The number in the file could by now be some other process's: ours is in the lab's namespace.
director_runs() {
    [ -s "$PID_FILE" ] && node_processes director | grep -qxF "$(cat "$PID_FILE")"
}

# A director that has ended cannot begin to forward: then there is nothing to wait for.
director_forwards_or_ended() {
    [ -s "$EXIT_FILE" ] || node director "$BIN/directorctl" status >/dev/null 2>&1
}

start_director() {
    rm -f "$EXIT_FILE"
    (
        cd "$STATE/director" || exit
        ulimit -c unlimited
        (node_exec director setsid "$BIN/director" --config "$STATE/director.toml") &
        echo $! >"$PID_FILE"
        status=0
        wait $! || status=$?
        echo "$status" >"$EXIT_FILE"
    ) </dev/null >>"$LOG" 2>&1 &
    wait_until 30 director_forwards_or_ended || true
    if ! node director "$BIN/directorctl" status >/dev/null; then
        say "lab $LAB: the director does not forward. The end of its log:"
        [ ! -f "$LOG" ] || tail -n 40 "$LOG" >&2
        return 1
    fi
}

director_ended() { ! director_runs; }

stop_director() {
    local pid
    director_runs || return 0
    pid=$(cat "$PID_FILE")
    kill -TERM "$pid"
    if ! wait_until 10 director_ended; then
        say "lab $LAB: the director did not end by SIGTERM within 10 s, killing it"
        kill -KILL "$pid"
        wait_until 5 director_ended
    fi
    rm -f "$PID_FILE"
}
