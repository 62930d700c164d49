#!/usr/bin/env bash
# Client and servers on one segment, the director with one port on it: the same service works.
source "$(dirname "$0")/../lib/e2e.sh"

up --one-armed
same "ports" 1 "$(status '.ports | length')"
service tcp 2
service udp 2
same "TCP" "72 71 72 71 72 71" "$(get 6)"
same "UDP" "72 71 72 71" "$(udp_get 4)"
seq 1 3000000 | head --bytes=20MB >"$STATE/files/20MB" || true
same "a download" "$(sha256sum <"$STATE/files/20MB")" "$(client sh -c "curl -s $URL/files/20MB | sha256sum")"
contains "ping" "0% packet loss" "$(client ping -c 2 -i 0.2 -W 2 $VIP)"
same "plain forwarding" "This is 192.168.2.71." "$(client curl -s --max-time 5 http://192.168.2.71:9999/)"
