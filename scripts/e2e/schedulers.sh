#!/usr/bin/env bash
# Every scheduler, set by ipvsadm, serves real connections in IPVS's recorded order.
# timeout: 300
source "$(dirname "$0")/../lib/e2e.sh"

up --servers 4

# Each case has a service of its own: a server that comes back brings its old connections with it.
PORT=8100
# new_service SCHEDULER[,FLAG…] WEIGHT[/UPPER]…: a service at $PORT with .71, .72, … added in this order.
new_service() {
    local scheduler=${1%%,*} flags=() number=70 weight
    [ "$scheduler" = "$1" ] || flags=(-b "${1#*,}")
    shift
    PORT=$((PORT + 1))
    ipvsadm -A -t "$VIP:$PORT" -s "$scheduler" "${flags[@]}"
    for weight in "$@"; do
        number=$((number + 1))
        server_at -a "$number" "$weight"
    done
}

# server_at -a|-e NUMBER WEIGHT[/UPPER]
server_at() {
    local upper=()
    [ "${3%/*}" = "$3" ] || upper=(-x "${3#*/}")
    ipvsadm "$1" -t "$VIP:$PORT" -r "192.168.2.$2:9999" -m -w "${3%/*}" "${upper[@]}"
}

# held COUNT [SOURCE…]: who answers on connections that stay open until all are made.
held() { client /usr/bin/python3 "$SCRIPTS/lib/held.py" "$VIP" "$PORT" "$@" </dev/null; }
# used COUNT [SOURCE...]: each of the servers that so many connections come to, once.
used() { held "$@" | tr ' ' '\n' | sort -u | paste -sd' '; }

while IFS='|' read -r scheduler weights expected; do
    read -r -a weights <<<"$weights"
    new_service "$scheduler" "${weights[@]}"
    same "$scheduler ${weights[*]}" "$expected" "$(held "$(wc -w <<<"$expected")")"
done <<END
rr|1 1 1|73 72 71 73 72 71 73 72 71
wrr|3 1|72 71 71 71 72 71 71 71
wrr|4 3 2|73 72 71 71 72 71 73 72 71 73 72 71 71 72 71 73
wrr|3 3 1|73 72 71 72 71 72 71 73 72 71
wrr|10 5|72 71 71 72 71 71
wrr|2 0 1|73 71 71 73 71 71
wrr|2147483647 1|72 71 71 71 71
lc|1 1 1|73 72 71 73 72 71
lc|1 5 0|72 71 72 71
wlc|3 1|72 71 71 71 72 71 71 71
wlc|1 2 3|73 72 71 73 72 73 73 72 71 73 72 73
wlc|4 3 2|73 72 71 71 72 73 71 72 71 73 72 71
sed|3 1|71 71 72 71 71 71 72 71 71 71 72 71
sed|1 2 3|73 72 73 73 72 71 73 72 73 73 72 71
nq|3 1|72 71 71 71 71 71 72 71 71 71 72 71
nq|4 3 2|73 72 71 71 72 71 73 72 71 71 72 73
fo|1 3 2|72 72 72
fo|1/2 3/2 2/2|72 72 73 73 71 71 none
ovf|1 3 2|72 72 72 72 73 73 73 71 71
ovf|1 1|72 72 71 71 none
ovf|2 2 2|73 73 73 72 72 72 71 71
lblc|1 1 1|73 73
lblcr|1 1 1|73 73
dh|1 1 1|73 73 73
END

# wlc is ipvsadm's default.
PORT=$((PORT + 1))
ipvsadm -A -t "$VIP:$PORT"
contains "without -s" "TCP  $VIP:$PORT wlc" "$(ipvsadm -Ln)"

# An edit restarts wrr's walk at the head.
new_service wrr 3 1
same "wrr, at first" "72 71 71 71 72" "$(held 5)"
server_at -e 72 2
same "wrr after 72 has got the weight 2" "72 71 71 72 71 72 71 71 72 71" "$(held 10)"

# The source decides.
for number in $(seq 11 33); do client ip address add "192.168.18.$number/24" dev eth0; done
mapfile -t sources < <(printf '192.168.18.%d\n' $(seq 10 33))
new_service sh 1 1 1
same "sh by source" "72 73 72 73 71 71 72 73 72 71 73 71 72 71 73 72 73 71 71 72 73 72 73 73" \
    "$(held 24 "${sources[@]}")"
server_at -e 72 0
same "sh without its server" "none 73 none 73 71 71" "$(held 6 "${sources[@]}")"
ipvsadm -E -t "$VIP:$PORT" -s sh -b sh-fallback
same "sh with the flag of fallback" "71 73" "$(used 24 "${sources[@]}")"
same "whose server is usable stays" "73 73 71 71" "$(held 6 "${sources[@]}" | cut -d' ' -f2,4-6)"

new_service mh 1 1 1
first=$(held 24 "${sources[@]}")
same "mh by source, each time alike" "$first" "$(held 24 "${sources[@]}")"
same "mh uses all servers" "71 72 73" "$(tr ' ' '\n' <<<"$first" | sort -u | paste -sd' ')"
server_at -a 74 0
same "mh: a server added with the weight 0 is not in the table" "$first" "$(held 24 "${sources[@]}")"
server_at -e 72 0
same "mh: one that gets the weight 0 stays in it" "${first//72/none}" "$(held 24 "${sources[@]}")"
ipvsadm -E -t "$VIP:$PORT" -s mh -b mh-fallback
same "mh with the flag of fallback" "71 73" "$(used 24 "${sources[@]}")"

# By source and port, connections of one client spread.
for scheduler in sh,sh-port mh,mh-port; do
    new_service "$scheduler" 1 1 1
    same "$scheduler uses all servers" "71 72 73" "$(used 40)"
done

# Another scheduler knows nothing of what the one before did.
new_service rr 1 1 1
same "rr" "73 72" "$(held 2)"
ipvsadm -E -t "$VIP:$PORT" -s rr
same "rr, set once more, goes on" "71" "$(held 1)"
ipvsadm -E -t "$VIP:$PORT" -s fo
ipvsadm -E -t "$VIP:$PORT" -s rr
same "rr, set anew, begins at the head" "73" "$(held 1)"
refused ipvsadm -E -t "$VIP:$PORT" -s twos
contains "a refusal changes nothing" "TCP  $VIP:$PORT rr" "$(ipvsadm -Ln)"

# The flags as ipvsadm and directorctl show and save them.
ipvsadm -C
for line in "84 sh -b sh-port" "85 sh -b sh-port,sh-fallback" "86 mh -b mh-fallback,mh-port" \
    "87 rr -b flag-1,flag-2,flag-3"; do
    read -r port scheduler flags <<<"$line"
    # shellcheck disable=SC2086 # two words
    ipvsadm -A -t "$VIP:$port" -s "$scheduler" $flags
done
same "flags in the listing" "\
TCP  $VIP:84 sh (sh-port)
TCP  $VIP:85 sh (sh-fallback,sh-port)
TCP  $VIP:86 mh (mh-fallback,mh-port)
TCP  $VIP:87 rr (flag-1,flag-2,flag-3)" "$(ipvsadm -Ln | grep ^TCP)"
contains "flags as saved" "-A -t $VIP:85 -s sh -b sh-fallback,sh-port" "$(ipvsadm -Sn)"
contains "flags in the status" "sh (sh-fallback,sh-port)" "$(lab ctl status)"
same "and in JSON" "mh-fallback,mh-port" \
    "$(status '.services[] | select(.address | endswith(":86")) | .flags | join(",")')"
