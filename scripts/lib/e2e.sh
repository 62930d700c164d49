# Sourced by each test of scripts/e2e: a lab of its own, words to talk to it, and what must hold at
# every end: the director alive, no panic, no core, every packet accounted for, nothing left behind.
# shellcheck shell=bash disable=SC2034 # names for the tests
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

TEST=$(basename "$0" .sh)
export LAB=e2e-$TEST-$$
STATE=/var/lib/director-lab/$LAB
CLIENT=192.168.18.10
VIP=192.168.18.58
BACK=192.168.2.90
SERVICE=$VIP:8888
URL=http://$SERVICE
# A test that ends its director on purpose sets this: then it is not looked for at the end.
DIRECTOR_ENDED=no

# Files of the test's own.
WORK=$(mktemp -d)

trap finish EXIT
trap 'exit 130' INT TERM

finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM # for the tools of the taking down too
    if [ "$status" -eq 0 ] && [ -d "$STATE" ]; then
        (check_end) || status=1
    fi
    [ "$status" -eq 0 ] || show_state
    [ ! -d "$STATE" ] || lab down || status=1
    if ip netns list | grep -q "^$LAB-"; then
        say "$TEST: a namespace is left"
        status=1
    fi
    rm -rf "$WORK"
    exit "$status"
}

show_state() {
    [ -d "$STATE" ] || return 0
    say "--- $TEST failed; the director's status:"
    timeout 5 "$SCRIPTS/lab" ctl status >&2 || true
    say "--- its services and connections:"
    timeout 5 "$SCRIPTS/lab" ipvsadm -Ln >&2 || true
    timeout 5 "$SCRIPTS/lab" ipvsadm -Lnc 2>&1 | head -n 30 >&2 || true
    say "--- the end of its log:"
    # Of a device it would have no end.
    [ ! -f "$STATE/director.log" ] || tail -n 40 "$STATE/director.log" >&2 || true
}

check_end() {
    if compgen -G "$STATE/director/core*" >/dev/null; then fail "the director dumped core"; fi
    if grep -q "panicked" "$STATE/director.log"; then fail "the director panicked"; fi
    [ "$DIRECTOR_ENDED" = no ] || return 0
    [ ! -e "$STATE/director.exit" ] || fail "the director ended with status $(cat "$STATE/director.exit")"
    wait_until 5 totals_agree || fail "the totals do not agree: $(status '.totals | tostring')"
}

totals_agree() {
    [ "$(status '.totals | .received == .sent + .to_twin + .dropped + .held')" = true ]
}

lab() { "$SCRIPTS/lab" "$@"; }

# up ARGS…: the lab, from a fresh build when the test is run by itself.
up() {
    need_root
    if [ -z "${DIRECTOR_BIN:-}" ]; then
        "$SCRIPTS/install"
        build_director
        DIRECTOR_BIN=$(binaries)
        export DIRECTOR_BIN
    fi
    lab up "$@"
}

# up_with SED-SCRIPT ARGS…: the lab with its configuration changed; what sed reads is `scripts/lab config`.
up_with() {
    local change=$1
    shift
    lab config "$@" | sed -E "$change" >"$WORK/director.toml"
    up --config "$WORK/director.toml" "$@"
}

# service_in_file ADDRESS SERVER…: a service of TCP by rr, as the configuration file has it; what follows is its servers'.
service_in_file() {
    printf '\n[[service]]\nprotocol = "tcp"\naddress = "%s"\nscheduler = "rr"\n' "$1"
    shift
    printf '\n[[service.server]]\naddress = "%s"\n' "$@"
}

# port_in_file NAME DEVICE ADDRESS: a port without a twin.
port_in_file() { printf '\n[[port]]\nname = "%s"\ndevice = "%s"\naddresses = ["%s"]\ntwin = false\n' "$@"; }

# neighbor_in_file ADDRESS MAC
neighbor_in_file() { printf '\n[[neighbor]]\naddress = "%s"\nmac = "%s"\n' "$@"; }

# address6 NODE ADDRESS GATEWAY: IPv6 on a node, which the lab has made without.
address6() {
    lab exec "$1" -- sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0
    lab exec "$1" -- ip address add "$2/64" dev eth0 nodad
    lab exec "$1" -- ip -6 route add default via "$3"
}

client() { lab exec client -- "$@"; }
director() { lab exec director -- "$@"; }
server() {
    local number=$1
    shift
    lab exec "server$number" -- "$@"
}
ipvsadm() { lab ipvsadm "$@"; }
status() { lab ctl status --json | jq -r "$1"; }

# service tcp|udp SERVERS: the mission's virtual service, real servers .71 to .7SERVERS added in this order.
service() {
    local option=-${1:0:1} number
    ipvsadm -A "$option" "$SERVICE" -s rr
    for number in $(seq "$2"); do
        ipvsadm -a "$option" "$SERVICE" -r "192.168.2.7$number:9999" -m
    done
}

# get COUNT: that many new connections; the last digits of the servers that answered: "72 71 72".
get() {
    client sh -c "for i in \$(seq $1); do curl -s --max-time 5 $URL/; done" | server_digits
}

# udp_get COUNT: the same by datagrams, each from a port of its own.
udp_get() {
    client sh -c "for i in \$(seq $1); do echo | nc -u -W 1 -w 3 ${SERVICE/:/ }; done" | server_digits
}

# datagram ADDRESS PORT: what the client hears when it sends one there: answered, refused (an ICMP error), nothing.
datagram() {
    client /usr/bin/python3 - "$@" <<'END'
import socket, sys

with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(3)
    asking.connect((sys.argv[1], int(sys.argv[2])))
    try:
        asking.send(b"x")
        asking.recv(100)
        print("answered")
    except ConnectionRefusedError:
        print("refused")
    except TimeoutError:
        print("nothing")
END
}

server_digits() { sed -n 's/^This is 192\.168\.2\.\([0-9]*\)\.$/\1/p' | paste -sd' '; }

# A connection held open: session, then request for each GET; ANSWER is the server's digits or the failure.
session() {
    coproc SESSION { exec "$SCRIPTS/lab" exec client -- /usr/bin/python3 "$SCRIPTS/lib/http-session.py" "${1:-$VIP}" "${2:-8888}"; }
    disown "$SESSION_PID" # else bash reports its end
    read -r SESSION_ADDRESS <&"${SESSION[0]}"
}

request() {
    echo / >&"${SESSION[1]}"
    read -r -t 15 ANSWER <&"${SESSION[0]}" || ANSWER="no answer"
    ANSWER=${ANSWER#This is 192.168.2.}
    ANSWER=${ANSWER%.}
}

# The state of the held connection's entry, "ESTABLISHED 14:59", or nothing.
session_entry() { ipvsadm -Lnc | awk -v source="$SESSION_ADDRESS" '$4 == source { print $3, $2 }'; }

fail() {
    say "$TEST: $*"
    exit 1
}

# same WHAT EXPECTED FOUND
same() { [ "$2" = "$3" ] || fail "$1: expected"$'\n'"$2"$'\n'"found"$'\n'"$3"; }

# matches WHAT PATTERN FOUND: an extended regular expression, of the whole.
matches() { [[ $3 =~ ^($2)$ ]] || fail "$1: expected something like '$2', found '$3'"; }

# contains WHAT PART FOUND
contains() { [[ $3 == *"$2"* ]] || fail "$1: expected '$2' in"$'\n'"$3"; }

# answered URL: somebody answers, within two seconds; unanswered URL: nobody does. For wait_until.
answered() { client curl -g -s --max-time 2 -o /dev/null "$1"; }
unanswered() { ! answered "$1"; }

# mtus_are LIST: the director has heard of these MTUs, "[1500,1000]".
mtus_are() { [ "$(status '[.ports[].mtu] | tostring')" = "$1" ]; }

# capture NODE FILE TCPDUMP-ARGUMENTS…: what passes eth0 of a node goes to FILE, in the background, and no longer than a
# minute; returns when it begins.
capture() {
    local node=$1 file=$2
    shift 2
    lab exec "$node" -- timeout 60 tcpdump -Z root -i eth0 -nn -l "$@" >"$file" 2>"$file.log" &
    wait_until 5 grep -q "listening on" "$file.log" || fail "tcpdump does not listen: $(cat "$file.log")"
}

# refused COMMAND…: it must fail.
refused() { if "$@" >/dev/null 2>&1; then fail "should have failed: $*"; fi; }
