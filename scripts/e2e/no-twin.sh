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

# Neighbours and routes are the file's, and what it says when it is read again.
answers() { [ "$(client curl -s --max-time 1 "$@" $URL/)" = "This is 192.168.2.71." ]; }
silent() { ! answers "$@"; }
cp "$STATE/director.toml" "$WORK/start.toml"
sed -i 's/02:00:00:00:0d:01/02:00:00:00:0d:77/' "$STATE/director.toml"
contains "the changed neighbour" "neighbour 192.168.2.71" "$(lab ctl reload)"
wait_until 5 silent || fail "the server is reached by another MAC address than the file's"
far=203.0.113.5
client ip address add $far/32 dev lo
cp "$WORK/start.toml" "$STATE/director.toml"
lab ctl reload >/dev/null
wait_until 5 answers || fail "the server is not reached by the file's MAC address"
wait_until 5 silent --interface $far || fail "a client behind no route is answered"
printf '[[route]]\ndestination = "203.0.113.0/24"\ngateway = "192.168.18.10"\n' >>"$STATE/director.toml"
same "a route" "route 203.0.113.0/24 via 192.168.18.10 on front added" "$(lab ctl reload)"
wait_until 5 answers --interface $far || fail "a client behind a route is not answered"
cp "$WORK/start.toml" "$STATE/director.toml"
same "without it" "route 203.0.113.0/24 via 192.168.18.10 on front deleted" "$(lab ctl reload)"
wait_until 5 silent --interface $far || fail "a client behind a route that went is answered"
