#!/usr/bin/env bash
# The kernel twins configure the director: addresses, routes, neighbours, MTU and link, heard within a second.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2

contains "front's address" "192.168.18.58/24" "$(director ip -brief address show front)"
contains "back's address" "192.168.2.90/24" "$(director ip -brief address show back)"
for port in front back; do
    same "the twin of $port has the port's MAC" "$(director cat "/sys/class/net/veth-$port/address")" \
        "$(director cat /sys/class/net/$port/address)"
done

# A second VIP, given and taken by ip.
director ip address add 192.168.18.59/24 dev front
ipvsadm -A -t 192.168.18.59:80 -s rr
ipvsadm -a -t 192.168.18.59:80 -r 192.168.2.71:9999 -m
wait_until 5 answered http://192.168.18.59/ || fail "a VIP added by ip does not answer"
same "a VIP added by ip" "This is 192.168.2.71." "$(client curl -s --max-time 5 http://192.168.18.59/)"
director ip address delete 192.168.18.59/24 dev front
wait_until 5 unanswered http://192.168.18.59/ || fail "a VIP taken away by ip answers"
same "the other VIP" "72 71" "$(get 2)"

# A route: an address of server1 in a network that is not the director's own.
server 1 ip address add 10.9.9.71/32 dev lo
director ip route add 10.9.9.0/24 via 192.168.2.71
ipvsadm -A -t $VIP:82 -s rr
ipvsadm -a -t $VIP:82 -r 10.9.9.71:9999 -m
wait_until 5 answered http://$VIP:82/ || fail "a server behind a route added by ip does not answer"
same "a server behind a route added by ip" "This is 192.168.2.71." "$(client curl -s --max-time 5 http://$VIP:82/)"
director ip route delete 10.9.9.0/24
wait_until 5 unanswered http://$VIP:82/ || fail "a server behind a route that ip took away answers"

# The same by a next hop of IPv6.
for node in director server1; do lab exec $node -- sysctl -qw net.ipv6.conf.all.disable_ipv6=0; done
director sysctl -qw net.ipv6.conf.back.disable_ipv6=0
server 1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0
has_link_local() { server 1 ip -6 -brief address show dev eth0 scope link -tentative | grep -q fe80; }
wait_until 5 has_link_local || fail "server1 has no address of IPv6"
router=$(server 1 ip -json -6 address show dev eth0 scope link | jq -r '.[0].addr_info[0].local')
director ip route add 10.9.9.0/24 via inet6 "$router" dev back
wait_until 5 answered http://$VIP:82/ || fail "a server behind a next hop of IPv6 does not answer"
same "a server behind a next hop of IPv6" "This is 192.168.2.71." "$(client curl -s --max-time 5 http://$VIP:82/)"
director ip route delete 10.9.9.0/24
ipvsadm -D -t $VIP:82

# A neighbour: a wrong MAC set by hand is used, and the right one again after it is gone.
ipvsadm -e -t $SERVICE -r 192.168.2.72:9999 -m -w 0
director ip neigh replace 192.168.2.71 lladdr 02:00:00:00:00:99 nud permanent dev back
wait_until 5 unanswered "$URL/" || fail "a wrong MAC is not used"
director ip neigh delete 192.168.2.71 dev back
wait_until 5 answered "$URL/" || fail "a wrong neighbour taken back is still used"
same "a wrong neighbour taken back" 71 "$(get 1)"

# More changes at once than the kernel keeps for one who listens: what it has not told of is found all the same.
director ip neigh replace 192.168.2.71 lladdr 02:00:00:00:00:99 nud permanent dev back
wait_until 5 unanswered "$URL/" || fail "a wrong MAC is not used a second time"
kill -STOP "$(cat "$STATE/director.pid")"
for number in $(seq 20000); do
    printf 'neigh replace 192.168.2.200 lladdr 02:00:00:00:%02x:%02x nud permanent dev back\n' \
        $((number / 256)) $((number % 256))
done >"$WORK/changes"
director ip -batch "$WORK/changes"
director ip neigh delete 192.168.2.71 dev back
kill -CONT "$(cat "$STATE/director.pid")"
wait_until 5 answered "$URL/" || fail "a neighbour that went unheard is still used"
same "a neighbour that went unheard" 71 "$(get 1)"
director ip neigh delete 192.168.2.200 dev back

# MTU: a smaller one on the servers' side turns large packets back with ICMP "fragmentation needed".
director ip link set back mtu 1000
wait_until 5 mtus_are "[1500,1000]" || fail "the MTU is not followed: $(status .ports)"
head --bytes=1MB /dev/zero >"$STATE/files/zeros"
same "an upload through a smaller MTU" "" "$(client curl -sS --max-time 20 -T "$STATE/files/zeros" "$URL/uploads/zeros")"
same "all of it" 1000000 "$(stat -c %s "$STATE/server1/uploads/zeros")"
contains "path MTU the client learnt, from the VIP" "mtu 1000" "$(client ip route get $VIP)"
director ip link set back mtu 1500

# The same on the clients' side: now the server learns it. (A client that has learnt one asks for less.)
client ip route flush cache
director ip link set front mtu 1000
wait_until 5 mtus_are "[1000,1500]" || fail "the MTU is not followed: $(status .ports)"
same "a download through a smaller MTU" 1000000 \
    "$(client curl -s --max-time 20 -o /dev/null -w '%{size_download}' "$URL/files/zeros")"
contains "path MTU the server learnt" "mtu 1000" "$(server 1 ip route get $CLIENT)"
director ip link set front mtu 1500
wait_until 5 mtus_are "[1500,1500]" || fail "the MTU is not followed: $(status .ports)"

# Link: a twin set down stops its port, and up again it goes on.
director ip link set back down
wait_until 5 unanswered "$URL/" || fail "the port of a twin that is down is used"
director ip link set back up
serves() { [ "$(get 1)" = 71 ]; }
wait_until 10 serves || fail "the port does not come back with its twin"
