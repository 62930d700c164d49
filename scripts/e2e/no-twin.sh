#!/usr/bin/env bash
# Ports without a kernel twin: neighbours come from the file, services work, and what is the kernel's has nowhere to go.
source "$(dirname "$0")/../lib/e2e.sh"

# The client's MAC address is the lab's choice, made before the director starts: take it after a first start.
up
client_mac=$(client cat /sys/class/net/eth0/address)
lab stop director
{
    lab config | sed -E 's/^(name = .*)/\1\ntwin = false/'
    cat <<END
[[neighbor]]
address = "192.168.18.10"
mac = "$client_mac"

[[neighbor]]
address = "192.168.2.71"
mac = "02:00:00:00:0d:01"

[[service]]
protocol = "tcp"
address = "$SERVICE"
scheduler = "rr"

[[service.server]]
address = "192.168.2.71:9999"
END
} >"$STATE/director.toml"
lab start director
same "no twin" "lo veth-back veth-front" "$(director ls /sys/class/net | sort | paste -sd' ')"

# Nobody answers ARP for the director, so the others are told as well.
client ip neigh replace $VIP lladdr "$(director cat /sys/class/net/veth-front/address)" nud permanent dev eth0
server 1 ip neigh replace $BACK lladdr "$(director cat /sys/class/net/veth-back/address)" nud permanent dev eth0
same "the service" "71 71 71" "$(get 3)"

before=$(status .drops.no_twin)
refused client ping -c 1 -W 1 $VIP
[ "$(status .drops.no_twin)" -gt "$before" ] || fail "no_twin did not count: $(status .drops)"
