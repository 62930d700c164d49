#!/usr/bin/env bash
# A server deleted with connections open: their packets are dropped and counted, and added again it goes on with them.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
session
request
first=$ANSWER
ipvsadm -d -t $SERVICE -r "192.168.2.$first:9999"
[ -n "$(session_entry)" ] || fail "the entry went with its server"
before=$(status .drops.server_gone)

# The request is dropped in silence, so the client repeats it until the server is back.
(
    sleep 2
    lab ipvsadm -a -t $SERVICE -r "192.168.2.$first:9999" -m
) &
start=$SECONDS
request
same "its server, added again" "$first" "$ANSWER"
[ $((SECONDS - start)) -ge 1 ] || fail "it was answered while its server was deleted"
[ "$(status .drops.server_gone)" -gt "$before" ] || fail "server_gone did not count: $(status .drops)"
wait $!
matches "its connection counts again" "1 [0-9]+" "$(ipvsadm -Ln | awk -v s="192.168.2.$first:9999" '$2 == s { print $5, $6 }')"

# Deleting the last service switches IPVS off: the connection's packets are the kernel's, which resets it.
ipvsadm -C
request
same "without any service" "connection reset" "$ANSWER"
