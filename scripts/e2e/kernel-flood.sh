#!/usr/bin/env bash
# A flood of packets that are no service's, more than the kernel takes, costs a port none of those by which the director stays
# in its network: ARP, routing protocols, ping and its own TCP connections. Other ports do not notice.
# timeout: 120
source "$(dirname "$0")/../lib/e2e.sh"

FRAMES=8192
PINGS=200
KINDS=(of_arp of_ospf of_bgp of_tcp of_ping)

# The lab's, and a port by which the flood comes.
configuration() {
    lab config | sed 's/^idle = .*/idle = "poll"/; s/^mbufs = .*/mbufs = 49152/'
    cat <<END
[[port]]
name = "flood"
device = "net_pcap0,rx_pcap=$WORK/frames.pcap,infinite_rx=1"
addresses = ["10.77.0.1/24"]
END
}

# Datagrams to a closed port and segments of connections that nobody has, in turn; and among so many one frame of each kind.
flood() {
    PYTHONPATH=$SCRIPTS/lib PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$WORK/frames.pcap" $FRAMES <<'END'
import socket, struct, sys
from frames import *
path, count = sys.argv[1], int(sys.argv[2])
mac, peer = bytes.fromhex("027063617000"), bytes.fromhex("020000000a01")
side = Side("client")
side.source, side.destination, side.dport = "10.77.0.10", "10.77.0.1", 7
ends = peer, socket.inet_aton(side.source), bytes(6), socket.inet_aton(side.destination)
ask = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, *ends)
def ip(protocol, payload):
    return mac + peer + b"\x08\x00" + side.ip(protocol, payload)
kinds = {
    17: b"\xff" * 6 + peer + b"\x08\x06" + ask,
    1700: ip(89, bytes(24)),
    3300: ip(TCP, side.tcp(ACK, dport=179)),
    4900: ip(TCP, side.tcp(ACK, sport=80, dport=40000)),
    6500: ip(ICMP, side.icmp(8, 0, 1, b"x" * 16)),
}
with open(path, "wb") as file:
    file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for number in range(count):
        other = ip(TCP, side.tcp(ACK, sport=1024 + number, dport=22)) if number % 2 else ip(UDP, side.udp())
        frame = kinds.get(number, other).ljust(60, b"\0")
        file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
END
}

# What of it the kernel hears.
count_kinds() {
    director nft -f - <<END
table netdev heard {
    $(printf 'counter %s { }\n' "${KINDS[@]}")
    chain flood {
        type filter hook ingress device "flood" priority 0
        ether type arp counter name of_arp
        ip protocol 89 counter name of_ospf
        tcp dport 179 counter name of_bgp
        tcp dport 40000 counter name of_tcp
        icmp type echo-request counter name of_ping
    }
}
END
}
heard() { director nft -j list counter netdev heard "$1" | jq '.nftables[].counter.packets? // empty'; }
received() { status '.ports[] | select(.name == "flood").rx_packets'; }

# The flood goes on while the counters are read, one after the other.
totals_agree() {
    [ "$(status '.totals | .received - .sent - .to_twin - .dropped - .held | fabs < 100000')" = true ]
}

flood
configuration >"$WORK/director.toml"
up --config "$WORK/director.toml"
count_kinds
# The kernel's own connection: what it gets for an answer is to port 40000. It is repeated often enough to be known.
director ip neigh replace 10.77.0.10 lladdr 02:00:00:00:0a:01 nud permanent dev flood
director nc -p 40000 -w 20 10.77.0.10 80 </dev/null >/dev/null 2>&1 &
asking() { director ss -Htn state syn-sent 'sport = 40000' | grep -q .; }
wait_until 5 asking || fail "the kernel does not ask for a connection"
before=$(received)
pings=$(client ping -q -c $PINGS -i 0.02 -W 5 $VIP | sed -n 's/.* \([0-9]*\) received.*/\1/p')
rounds=$((($(received) - before) / FRAMES))
# What waits comes after a moment.
heard_all() {
    counts=$(for kind in "${KINDS[@]}"; do heard "$kind"; done | paste -sd' ')
    for count in $counts; do [ "$count" -ge "$rounds" ] || return 1; done
}
wait_until 5 heard_all || true
say "$rounds rounds of the flood; of ${KINDS[*]} the kernel heard $counts"
same "pings on another port that were answered" $PINGS "$pings"
[ "$rounds" -ge 10 ] || fail "that is no flood"
same "kinds that were counted" ${#KINDS[@]} "$(wc -w <<<"$counts")"
for count in $counts; do
    [ "$count" -ge "$rounds" ] || fail "it did not hear all"
done
for class in link routing tcp icmp; do
    same "dropped of the class $class" 0 "$(status ".drops.twin_${class}_full")"
done
[ "$(status .drops.twin_other_full)" -gt 10000 ] || fail "it took it all: $(status .drops)"
