#!/usr/bin/env bash
# The kernel's IPVS sysctls are read and set while the director runs: what comes next obeys them, what is wrong is refused by name.
source "$(dirname "$0")/../lib/e2e.sh"

sysctl() { lab ctl "$@"; }

# refuses PART ARGS…: exit status 2, and both the name and PART are in the message.
refuses() {
    local part=$1 code=0 answer
    shift
    answer=$(sysctl "$@" 2>&1) || code=$?
    same "exit status of $*" 2 "$code"
    contains "$*" "$part" "$answer"
    contains "$*" "$2" "$answer"
}

# shellcheck disable=SC2016 # sed's $, its last line
up_with '$a [ipvs]\nam_droprate = 3\nexpire_nodest_conn = 5'

some='am_droprate = 3
conn_reuse_mode = 1
conntrack = 0
drop_entry = 0
drop_packet = 0
expire_nodest_conn = 5
nat_icmp_send = 0
sloppy_tcp = 0
sync_threshold = 3 50'
shown() { sysctl get | grep -E '^(am_|conn|drop_|expire_nodest|nat_|sloppy_tcp|sync_threshold)'; }
same "some of them" "$some" "$(shown)"
all=$(sysctl get)
same "all of them as JSON" "$all" "$(sysctl get --json | jq -r 'to_entries[] | "\(.key) = \(.value)"')"
same "the types in JSON" '[0,"3 50"]' "$(sysctl get --json | jq -c '[.conntrack, .sync_threshold]')"
same "one of them" 3 "$(sysctl get am_droprate)"
same "one by sysctl's name, as JSON" '{"am_droprate":3}' "$(sysctl get --json net.ipv4.vs.am_droprate | jq -c .)"

refuses "sloppy_tcp" get slopy_tcp
refuses "no effect here" set conntrack 1
refuses "only the default 0" set conntrack 1
refuses "leave it out" get sync_qlen_max
sysctl set conntrack 0
sysctl set sync_threshold "3 50"
refuses "0 to 3" set drop_packet 4
refuses "0 to 3" set drop_entry 4
refuses "0 to 3" set secure_tcp -1
refuses "0 to 3" set drop_packet -1
refuses "-2147483648 to 2147483647" set sloppy_tcp on
refuses "-2147483648 to 2147483647" set am_droprate 2147483648
refuses "there is no sysctl" set net.ipv4.ip_forward 1
same "all of them, after nothing but mistakes" "$all" "$(sysctl get)"

# drop_packet, of two workers' common count: each third new connection, beginning with the first; a SYN is repeated after 1 s.
service tcp 2
slow() { client curl -s -o /dev/null --max-time 5 -w '%{time_connect}\n' $URL/ | awk '{ print ($1 > 0.9) ? "slow" : "quick" }'; }
sysctl set drop_packet 3
before=$(status .drops.drop_packet)
# The first SYN is dropped, its repetition is the second, so the next connections are the third, the dropped fourth, …
same "connections of every third dropped" "slow quick slow quick slow" "$(for _ in 1 2 3 4 5; do slow; done | paste -sd' ')"
same "SYNs dropped" 3 "$(($(status .drops.drop_packet) - before))"
sysctl set am_droprate 0
same "connections of none dropped" "quick quick quick" "$(for _ in 1 2 3; do slow; done | paste -sd' ')"
sysctl set drop_packet 2
same "drop_packet 2 reads back" 1 "$(sysctl get drop_packet)"

# expire_nodest_conn: the entry of a deleted server stays, or goes at once. The file has it on.
no_entry() { [ -z "$(session_entry)" ]; }
session
request
ipvsadm -d -t $SERVICE -r "192.168.2.$ANSWER:9999"
wait_until 5 no_entry || fail "expire_nodest_conn 5, and the entry stays: $(session_entry)"
kill "$SESSION_PID"
sysctl set expire_nodest_conn 0
session
request
ipvsadm -d -t $SERVICE -r "192.168.2.$ANSWER:9999"
sleep 1
matches "its entry" "ESTABLISHED 14:5[0-9]" "$(session_entry)"
kill "$SESSION_PID"

# anew: the director, with its file's values, and the service; what was open is unknown to it.
anew() {
    lab stop director
    lab start director
    same "all of them, after a new start" "$all" "$(sysctl get)"
    service tcp 2
}

# sloppy_tcp: the middle of a connection nobody knows. A director's first new connection is server2's.
anew
session
request
same "the connection's server" 72 "$ANSWER"
anew
sysctl set sloppy_tcp 1
request
same "with sloppy_tcp" 72 "$ANSWER"
sysctl set sloppy_tcp -1
same "sloppy_tcp reads back" -1 "$(sysctl get sloppy_tcp)"
anew
request
same "without" "connection reset" "$ANSWER"
