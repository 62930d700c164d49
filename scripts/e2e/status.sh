#!/usr/bin/env bash
# `directorctl status` says what the director is and does, for people and as JSON, and exits 0 only if it forwards.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
get 10 >/dev/null
session
request

answer=$(lab ctl status)
for word in front back net_af_packet 192.168.18.58:8888 192.168.2.71:9999 rr; do
    contains "status" "$word" "$answer"
done

json=$(lab ctl status --json)
ask() { jq -r "$1" <<<"$json"; }
same "ports" "front back" "$(ask '[.ports[].name] | join(" ")')"
for key in rx_packets rx_bytes tx_packets tx_bytes drops; do
    same "type of .ports[].$key" number "$(ask "[.ports[].$key | type] | unique | join(\" \")")"
    same "type of .workers[].$key" number "$(ask "[.workers[].$key | type] | unique | join(\" \")")"
done
same "types of .connections" "number number number" \
    "$(ask '.connections | [.active, .capacity, .bytes_per_connection | type] | join(" ")')"
same "the service" "tcp 192.168.18.58:8888 rr" "$(ask '.services[] | [.protocol, .address, .scheduler] | join(" ")')"
same "its servers" "192.168.2.71:9999 192.168.2.72:9999" "$(ask '[.services[].servers[].address] | sort | join(" ")')"
same "one active connection" 1 "$(ask '[.services[].servers[].active] | add')"
same "inactive ones" 10 "$(ask '[.services[].servers[].inactive] | add')"
same "entries" 11 "$(ask .connections.active)"
same "reasons for drops are numbers" number "$(ask '[.drops[] | type] | unique | join(" ")')"

# The counters are the wire's: 1,000 pings more, 1,000 packets more.
before=$(status '.ports[] | select(.name == "front").rx_packets')
client ping -q -c 1000 -i 0.002 -W 2 $VIP >/dev/null
after=$(status '.ports[] | select(.name == "front").rx_packets')
case $((after - before)) in
    10[01]? | 1020) ;;
    *) fail "1,000 pings made rx_packets grow by $((after - before))" ;;
esac

# Wherever there is no director: not 0, and it says what it looked for.
code=0
answer=$(lab ctl --directory /nosuch status 2>&1) || code=$?
[ $code -ne 0 ] || fail "status of no director exits 0"
contains "the message names the directory" /nosuch "$answer"
code=0
director env DIRECTOR_DIRECTORY=/nosuch directorctl status >/dev/null 2>&1 || code=$?
[ $code -ne 0 ] || fail "DIRECTOR_DIRECTORY is not heard"
