#!/usr/bin/env bash
# The engine's scenarios through the real director, those that need neither hours nor another network.
source "$(dirname "$0")/../lib/e2e.sh"

up
client ping -c 1 -W 2 $VIP >/dev/null
server 1 ping -c 1 -W 2 $BACK >/dev/null
server 2 ping -c 1 -W 2 $BACK >/dev/null
gateway_mac() { lab exec "$1" -- ip -json neigh show "$2" | jq -r '.[0].lladdr'; }
front=$(gateway_mac client $VIP)
back=$(gateway_mac server1 $BACK)
# The nodes' own stacks shall not join in.
for node in client server1 server2; do
    lab exec $node -- nft 'table ip quiet {
        chain input { type filter hook input priority 0; meta l4proto { tcp, udp, sctp, 4 } drop; }; }'
done

export SCRIPTS
ran=$(PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$SCRIPTS/lib/scenarios.py" "$LAB" "$front" "$back" \
    "$ROOT"/director/engine/tests/scenarios/*.scn) || fail "$ran"
say "scenarios: $ran"
matches "cases that passed" '([5-9][0-9]|[1-9][0-9]{2,}) passed, [0-9]+ skipped' "$ran"
