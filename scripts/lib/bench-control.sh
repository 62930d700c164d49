# The control plane at scale; sourced by scripts/bench for `scripts/bench control`. See docs/guide/benchmarks.md.
# shellcheck shell=bash

# rules SERVICES SERVERS: what `ipvsadm -R` reads of that many services of that many servers.
rules() {
    awk -v services="$1" -v servers="$2" 'BEGIN {
        for (n = 0; n < services; n++) {
            vip = "10." int(n / 2500) "." int(n / 10) % 250 ".1:" 8000 + n % 10
            print "-A -t " vip " -s rr"
            for (s = 0; s < servers; s++)
                print "-a -t " vip " -r 172." 16 + n % 16 "." int(s / 250) "." s % 250 + 1 ":80 -m -w 1"
        }
    }'
}

# configuration [RULES]: a director without frames, with the services of these rules in its file.
configuration() {
    local cpus
    mapfile -t cpus < <(allowed_cpus)
    cat <<END
[dpdk]
lcores = "0@${cpus[0]},1@${cpus[1]:-${cpus[0]}}"
mbufs = 8192
idle = "sleep"
eal = ["--no-pci", "--no-huge", "-m", "128"]
[control]
directory = "$WORK"
[connections]
capacity = 10_000
[[port]]
name = "front"
device = "net_null0,no-rx=1"
addresses = ["192.168.18.58/24"]
twin = false
END
    awk '$1 == "-A" { print "[[service]]\nprotocol = \"tcp\"\naddress = \"" $3 "\"\nscheduler = \"rr\"" }
        $1 == "-a" { print "[[service.server]]\naddress = \"" $5 "\"" }' "${1:-/dev/null}"
}

answers() { "$BIN/directorctl" --directory "$WORK" get conn_reuse_mode >/dev/null 2>&1; }

# start CONFIGURATION: a director, until it answers.
start() {
    "$BIN/director" --config "$1" >"$WORK/log" 2>&1 &
    DIRECTOR=$!
    until answers; do
        kill -0 "$DIRECTOR" 2>/dev/null || die "the director ended: $(cat "$WORK/log")"
        sleep 0.01
    done
}

stop() {
    kill "$DIRECTOR"
    wait "$DIRECTOR" || die "the director ended badly: $(cat "$WORK/log")"
    DIRECTOR=
}

tool() { "$BIN/directorctl" --directory "$WORK" exec -- ipvsadm "$@"; }

# timed WHAT COMMAND…: notes how many seconds it takes, of this round.
timed() {
    local what=$1 from=$EPOCHREALTIME
    shift
    "$@"
    echo "$from $EPOCHREALTIME" | awk '{ printf "%.6f\n", $2 - $1 }' >"$WORK/$what.now"
}

load() { tool -R <"$1"; }
list() { tool -Ln >"$WORK/listed"; }

expect() {
    local found
    found=$(grep -c '^  -> [0-9]' "$WORK/listed")
    [ "$found" -eq "$1" ] || die "$found servers are listed, not $1"
}

# row WHAT TEXT COMMANDS: the median, least and greatest of what was noted.
row() {
    sort -n "$WORK/$1.times" | awk -v text="$2" -v commands="${3:-}" '{ t[NR] = $1 }
        END {
            m = NR % 2 ? t[(NR + 1) / 2] : (t[NR / 2] + t[NR / 2 + 1]) / 2
            printf "%-58s %6.2f s (%.2f to %.2f)", text, m, t[1], t[NR]
            if (commands) printf ", %.0f us a command", m / commands * 1e6
            print ""
        }'
}

# used: hundredths of a second of the CPUs, since the machine and this script began: in use, taken by the hypervisor, and
# in use by this script and what it has waited for, which at the start and the end of a round is all that it runs.
used() {
    local cpus
    cpus=$(allowed_cpus | sed 's/^/cpu/' | paste -sd' ')
    awk -v cpus=" $cpus " '
        FNR == NR { own = $14 + $15 + $16 + $17; next }
        index(cpus, " " $1 " ") { busy += $2 + $3 + $4 + $7 + $8; stolen += $9 }
        END { print busy, stolen, own }' "/proc/$$/stat" /proc/stat
}

# disturbance SECONDS BEFORE AFTER: who else had the CPUs in between, if that was more than the other benchmarks bear:
# others 5 %, the hypervisor 2 % of one CPU.
disturbance() {
    echo "$@" | awk '{
        others = ($5 - $2 - ($7 - $4)) / $1
        stolen = ($6 - $3) / $1
        if (others > 5) printf "other processes used %.0f %% of a CPU", others
        else if (stolen > 2) printf "the hypervisor took %.0f %% of a CPU", stolen
    }'
}

# round: notes how long each thing takes.
round() {
    timed empty start "$WORK/empty.toml"
    timed many load "$WORK/many"
    timed list list
    expect 100000
    timed again tool -C
    timed one load "$WORK/one"
    timed list-one list
    expect 10000
    stop
    timed file start "$WORK/many.toml"
    list
    expect 100000
    stop
}

# bench_control [ROUNDS] [--noisy]: a round that something else disturbed is measured again, up to five times.
bench_control() {
    local rounds=3 noisy='' argument round=1 tries=0 from before reason times disturbances=()
    for argument; do
        case $argument in
            --noisy) noisy=1 ;;
            [1-9] | [1-9][0-9]) rounds=$argument ;;
            *) die "scripts/bench control [ROUNDS] [--noisy]" ;;
        esac
    done
    BIN=$(binaries)
    WORK=$(mktemp -d)
    trap '[ -z "${DIRECTOR:-}" ] || kill "$DIRECTOR" 2>/dev/null || true; rm -rf "$WORK"' EXIT
    rules 10000 10 >"$WORK/many"
    rules 1 10000 >"$WORK/one"
    configuration >"$WORK/empty.toml"
    configuration "$WORK/many" >"$WORK/many.toml"
    while [ "$round" -le "$rounds" ]; do
        say "round $round of $rounds"
        from=$EPOCHREALTIME before=$(used)
        round
        reason=$(disturbance "$(echo "$EPOCHREALTIME $from" | awk '{ print $1 - $2 }')" "$before" "$(used)")
        if [ -n "$reason" ] && [ -z "$noisy" ]; then
            tries=$((tries + 1))
            [ "$tries" -lt 5 ] || die "no report, for the CPUs were not the benchmark's alone, 5 times in a row: $reason. Stop" \
                "what else runs, or have it reported all the same with --noisy"
            say "measured again: $reason"
            rm -f "$WORK"/*.now
            continue
        fi
        for times in "$WORK"/*.now; do cat "$times" >>"${times%.now}.times"; done
        rm "$WORK"/*.now
        [ -z "$reason" ] || disturbances+=("$reason")
        tries=0 round=$((round + 1))
    done
    [ ${#disturbances[@]} -eq 0 ] || printf 'noisy: %s\n' "${disturbances[@]}"
    row many "ipvsadm -R, 10,000 services of 10 servers" 110000
    row list "ipvsadm -Ln of them" 10000
    row again "ipvsadm -C of them"
    row one "ipvsadm -R, one service of 10,000 servers" 10001
    row list-one "ipvsadm -Ln of it"
    row empty "a start without services"
    row file "a start with 10,000 services of 10 servers in the file"
}
