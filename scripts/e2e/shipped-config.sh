#!/usr/bin/env bash
# The configuration that is shipped as an example runs as it is, its service listed as if ipvsadm had made it.
source "$(dirname "$0")/../lib/e2e.sh"

up --config "$ROOT/config/lvs-nat.toml"
same "the service of the file" "\
-A -t 192.168.18.58:8888 -s rr
-a -t 192.168.18.58:8888 -r 192.168.2.71:9999 -m -w 1
-a -t 192.168.18.58:8888 -r 192.168.2.72:9999 -m -w 1" "$(ipvsadm -S -n)"
same "it serves, the last of the file first" "72 71 72 71" "$(get 4)"
same "its capacity" 1000000 "$(status .connections.capacity)"
