#!/usr/bin/env bash
# A connection stays with its server, whatever happens to the service meanwhile.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
answers=$(client curl -s -w 'connections made: %{num_connects}\n' "$URL/[1-200]" | sort | uniq -c)
contains "200 requests, one server" "200 This is 192.168.2.72." "$answers"
contains "all on one connection" "199 connections made: 0" "$answers"

session
request
first=$ANSWER
get 5 >/dev/null
request
same "after other connections" "$first" "$ANSWER"
ipvsadm -e -t $SERVICE -r "192.168.2.$first:9999" -m -w 0
request
same "with its server at weight 0" "$first" "$ANSWER"
