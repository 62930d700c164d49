#!/usr/bin/env bash
# `directorctl exec` hands IPVS to any tool and takes nothing else: real netlink, files and the exit status stay.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
director_exec() { lab ctl exec -- "$@"; }

contains "ipvsadm" "TCP  $SERVICE rr" "$(director_exec ipvsadm -Ln)"
contains "a shell and its children" "TCP  $SERVICE rr" "$(director_exec sh -c 'true; ipvsadm -Ln; true')"
contains "ip, by real netlink" front "$(director_exec ip -brief link)"
contains "ethtool, by real generic netlink" "Link detected" "$(director_exec ethtool front)"
contains "nft" "" "$(director_exec nft list ruleset)"

# The kernel's files, hexadecimal as there: 192.168.18.58:8888 is C0A8123A:22B8.
session
request
contains "/proc/net/ip_vs" "TCP  C0A8123A:22B8 rr" "$(director_exec cat /proc/net/ip_vs)"
matches "/proc/net/ip_vs_conn" "TCP C0A8120A [0-9A-F]{4} C0A8123A 22B8 C0A802(47|48) 270F ESTABLISHED +[0-9]+ *" \
    "$(director_exec cat /proc/net/ip_vs_conn | grep '^TCP')"
contains "/proc/net/ip_vs_stats" "Conns" "$(director_exec cat /proc/net/ip_vs_stats)"
same "/proc/net/ip_vs_stats_percpu, its lines of six" "CPU 0 ~" \
    "$(director_exec cat /proc/net/ip_vs_stats_percpu | awk 'NF == 6 { print $1 }' | paste -sd' ')"
contains "other files are the machine's" "processor" "$(director_exec cat /proc/cpuinfo)"

for code in 0 3 77; do
    found=0
    director_exec sh -c "exit $code" || found=$?
    same "the command's exit status" $code $found
done
found=0
director_exec no-such-command 2>/dev/null || found=$?
same "a command that does not exist" 127 $found
