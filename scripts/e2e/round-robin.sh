#!/usr/bin/env bash
# rr serves as IPVS does: newest server first, weight 0 skipped, changes take effect at once.
source "$(dirname "$0")/../lib/e2e.sh"

up --servers 4
service tcp 3
same "three servers, newest first" "73 72 71 73 72 71 73 72 71" "$(get 9)"

ipvsadm -e -t $SERVICE -r 192.168.2.72:9999 -m -w 0
same "72 at weight 0" "73 71 73 71" "$(get 4)"

ipvsadm -a -t $SERVICE -r 192.168.2.74:9999 -m
same "74 added: it is the head of the list" "74 73 71 74" "$(get 4)"

ipvsadm -e -t $SERVICE -r 192.168.2.72:9999 -m -w 5
same "72 back; weights above 0 are alike" "73 72 71 74" "$(get 4)"

ipvsadm -d -t $SERVICE -r 192.168.2.74:9999
same "the server served last deleted: its successor goes on" "73 72 71 73" "$(get 4)"

same "20 connections, exactly shared" "$(printf '%s ' 72 71 73 72 71 73 72 71 73 72 71 73 72 71 73 72 71 73 72 71 | sed 's/ $//')" "$(get 20)"
