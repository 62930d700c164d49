#!/usr/bin/env bash
# The engine's scenarios through the real director, those that need neither hours nor another network.
# timeout: 300
source "$(dirname "$0")/../lib/e2e.sh"

VIP6=2001:db8:18::58
BACK6=2001:db8:2::90
up_with "s|\"$VIP/24\"|&, \"$VIP6/64\"|; s|\"$BACK/24\"|&, \"$BACK6/64\"|"
director sysctl -qw net.ipv6.conf.all.forwarding=1
address6 client 2001:db8:18::10 $VIP6
for number in 1 2; do address6 server$number 2001:db8:2::7$number $BACK6; done
wait_until 10 client ping -6 -c 1 -W 1 $VIP6 >/dev/null || fail "the VIP does not answer ping"
for number in 1 2; do
    wait_until 10 server $number ping -6 -c 1 -W 1 $BACK6 >/dev/null || fail "nor the other side, server $number"
done
client ping -c 1 -W 2 $VIP >/dev/null
server 1 ping -c 1 -W 2 $BACK >/dev/null
server 2 ping -c 1 -W 2 $BACK >/dev/null
gateway_mac() { lab exec "$1" -- ip -json neigh show "$2" | jq -r '.[0].lladdr'; }
front=$(gateway_mac client $VIP)
back=$(gateway_mac server1 $BACK)
# The nodes' own stacks shall not join in.
for node in client server1 server2; do
    lab exec $node -- nft 'table inet quiet {
        chain input { type filter hook input priority 0; meta l4proto { tcp, udp, sctp, 4, 41 } drop; ip6 nexthdr 51 drop; }; }'
done

export SCRIPTS
ran=$(PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$SCRIPTS/lib/scenarios.py" "$LAB" "$front" "$back" \
    "$ROOT"/director/engine/tests/scenarios/*.scn) || fail "$ran"
say "scenarios: $ran"
matches "cases that passed" '([5-9][0-9]|[1-9][0-9]{2,}) passed, [0-9]+ skipped' "$ran"
