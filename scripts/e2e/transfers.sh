#!/usr/bin/env bash
# Long transfers arrive whole, in both directions, several at a time.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
files=$STATE/files
seq 1 14000000 | head --bytes=100MB >"$files/100MB" || true
sum=$(sha256sum <"$files/100MB")

same "a download" "$sum" "$(client sh -c "curl -s $URL/files/100MB | sha256sum")"

client curl -s -T "$files/100MB" "$URL/uploads/single"
same "an upload" "$sum" "$(cat "$STATE"/server*/uploads/single | sha256sum)"

# Four each way at once.
pids=()
for number in 1 2 3 4; do
    client sh -c "curl -s $URL/files/100MB | sha256sum" >"$STATE/download-$number" &
    pids+=($!)
    client curl -s -T "$files/100MB" "$URL/uploads/$number" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || fail "a transfer failed"
done
for number in 1 2 3 4; do
    same "download $number of four" "$sum" "$(cat "$STATE/download-$number")"
    same "upload $number of four" "$sum" "$(cat "$STATE"/server*/uploads/"$number" | sha256sum)"
done
