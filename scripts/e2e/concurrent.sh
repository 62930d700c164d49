#!/usr/bin/env bash
# 2,000 connections at once, kept open and short ones, without one error, and shared exactly.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2

# Kept open: 2,000 keep-alive connections, requests on all of them for some seconds.
answer=$(client sh -c "ulimit -n 8192; wrk --threads 1 --connections 2000 --duration 8s --timeout 8s $URL/")
say "$answer"
if [[ $answer == *"Socket errors"* || $answer == *"Non-2xx"* ]]; then fail "wrk saw errors: $answer"; fi
matches "requests" '[0-9]+' "$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' <<<"$answer")"

# wrk opens one connection more, to try the address.
same "all were scheduled, and shared exactly" "1000 1001" \
    "$(ipvsadm -Ln -t $SERVICE | awk '/9999/ { print $5 + $6 }' | sort -n | paste -sd' ')"

# Short ones: 10,000 connections, 2,000 under way at a time.
answer=$(client sh -c "ulimit -n 8192; ab -q -r -s 20 -n 10000 -c 2000 $URL/" 2>&1)
say "$(grep -E '^(Complete|Failed|Requests per)' <<<"$answer")"
same "completed" 10000 "$(awk '/^Complete requests/ { print $3 }' <<<"$answer")"
same "failed" 0 "$(awk '/^Failed requests/ { print $3 }' <<<"$answer")"
