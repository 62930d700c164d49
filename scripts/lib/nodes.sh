# The lab's nodes and wires; sourced by scripts/lab.
# shellcheck shell=bash
#
# A node is a network namespace LAB-NODE with a /run of its own, so that labs run side by side and
# leave nothing on the machine. Two sides as in an LVS-NAT set-up:
#
#   client ─ eth0 ─── veth-front ─ director ─ veth-back ─── switch ─── eth0 ─ server1 … serverN
#   192.168.18.10   192.168.18.58          192.168.2.90                192.168.2.71 …
#
# One-armed: client, director (veth-front alone) and servers are all on the switch.
# The director's addresses are not set here: it sets them on its ports' kernel twins.

CLIENT_ADDRESS=192.168.18.10
VIP=192.168.18.58
BACK_ADDRESS=192.168.2.90

namespace() { printf '%s-%s\n' "$LAB" "$1"; }

server_address() { printf '192.168.2.%d\n' $((70 + $1)); }

# The nodes of this lab that exist, whether or not its `up` came to its end.
existing_nodes() {
    command -v ip >/dev/null || return 0
    ip netns list | awk '{ print $1 }' |
        sed -n -E "s/^$LAB-(client|director|switch|server[0-9]+)\$/\1/p" | sort --version-sort
}

# node_exec NODE COMMAND…: becomes COMMAND in the node. Only for a subshell or the script's last line.
node_exec() {
    local name=$1
    shift
    # The mount is the command's own and ends with it: ip gives it a mount namespace.
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec ip netns exec "$(namespace "$name")" \
        sh -c 'mount --bind "$1" /run && shift && exec "$@"' sh "$STATE/$name/run" "$@"
}

# node NODE COMMAND…: runs COMMAND in the node.
node() { (node_exec "$@"); }

# node_ip NODE ARGS…: ip in the node.
node_ip() {
    local name=$1
    shift
    ip -n "$(namespace "$name")" "$@"
}

make_node() {
    mkdir -p "$STATE/$1/run"
    ip netns add "$(namespace "$1")"
    node_ip "$1" link set lo up
    # The lab speaks IPv4; IPv6's autoconfiguration would only add frames nobody asked for. The
    # director's own interfaces, its ports' twins, are left as the kernel makes them.
    [ "$1" = director ] ||
        node "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
}

# wire NODE INTERFACE NODE INTERFACE: a cable between two interfaces.
wire() {
    node_ip "$1" link add "$2" type veth peer name "$4" netns "$(namespace "$3")"
    finish_interface "$1" "$2"
    finish_interface "$3" "$4"
}

finish_interface() {
    # A veth hands on what its sender would leave to a NIC: checksums not yet computed, and segments
    # far larger than a frame. The director's packet socket needs what a real wire carries.
    node "$1" ethtool -K "$2" tx off sg off tso off gso off gro off >/dev/null
    node "$1" sysctl -qw "net.ipv6.conf.$2.disable_ipv6=1"
    node_ip "$1" link set "$2" up
}

# plug NODE INTERFACE PORT: a cable from a node to a port of the switch.
plug() {
    wire "$1" "$2" switch "$3"
    node_ip switch link set "$3" master bridge
}

build_network() {
    local servers=$1 one_armed=$2 number
    make_node switch
    node_ip switch link add bridge type bridge
    node_ip switch link set bridge up

    make_node director
    node director sysctl -qw net.ipv4.ip_forward=1
    make_node client
    if [ "$one_armed" = yes ]; then
        plug client eth0 client
        plug director veth-front front
    else
        wire client eth0 director veth-front
        plug director veth-back back
    fi
    node_ip client address add "$CLIENT_ADDRESS/24" dev eth0
    node_ip client route add default via "$VIP"

    for number in $(seq "$servers"); do
        make_node "server$number"
        plug "server$number" eth0 "server$number"
        node_ip "server$number" link set eth0 address "$(printf '02:00:00:00:0d:%02x' "$number")"
        node_ip "server$number" address add "$(server_address "$number")/24" dev eth0
        node_ip "server$number" route add default via "$BACK_ADDRESS"
    done
}

# Whatever runs in a node belongs to this lab: it made the namespace.
node_processes() { ip netns pids "$(namespace "$1")" 2>/dev/null || true; }

no_processes() { [ -z "$(node_processes "$1")" ]; }

stop_processes() {
    local pids
    mapfile -t pids < <(node_processes "$1")
    [ "${#pids[@]}" -gt 0 ] || return 0
    kill -TERM "${pids[@]}" 2>/dev/null || true
    if ! wait_until 3 no_processes "$1"; then
        mapfile -t pids < <(node_processes "$1")
        say "lab $LAB: still running in $1 after SIGTERM, killing: ${pids[*]}"
        kill -KILL "${pids[@]}" 2>/dev/null || true
        wait_until 3 no_processes "$1" || true
    fi
}

remove_node() {
    stop_processes "$1"
    ip netns delete "$(namespace "$1")"
}
