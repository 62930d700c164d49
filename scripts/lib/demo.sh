# `scripts/lab demo`: LVS-NAT step by step, each answer checked; sourced by scripts/lab.
# shellcheck shell=bash
#
# Every command is shown as the reader can type it while the lab stands (--keep leaves it standing).

URL=http://$VIP:8888
STEP=0

BOLD='' RED='' GREEN='' BLUE='' PLAIN=''
if [ -t 1 ]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' BLUE=$'\e[36m' PLAIN=$'\e[0m'
fi

step() {
    STEP=$((STEP + 1))
    printf '\n%s%d. %s%s\n' "$BOLD" "$STEP" "$*" "$PLAIN"
}

# run ARGS…: shows and runs `scripts/lab ARGS`; what it prints is shown, and kept in ANSWER.
run() {
    run_quietly "$@"
    [ -z "$ANSWER" ] || printf '%s\n' "$ANSWER"
}

run_quietly() {
    show "$@"
    ANSWER=$(lab "$@" 2>&1) || fail "it ended with status $?: $ANSWER"
}

# The connections, without the many closed ones of the steps before.
run_connections() {
    run_quietly ipvsadm -Lnc
    grep -v TIME_WAIT <<<"$ANSWER"
    printf '(and %d in TIME_WAIT)\n' "$(grep -c TIME_WAIT <<<"$ANSWER")"
}

# run_failing ARGS…: the same for a command that must fail.
run_failing() {
    show "$@"
    if ANSWER=$(lab "$@" 2>&1); then fail "it should have failed: $ANSWER"; fi
    printf '%s\n' "$ANSWER"
}

# show ARGS…: the command line, as one would type it.
show() {
    local word line='$ scripts/lab'
    for word in "$@"; do
        case $word in
            *\'*) line+=" \"$word\"" ;;
            *[\ \|\;\$\{\}\>\<]*) line+=" '$word'" ;;
            *) line+=" $word" ;;
        esac
    done
    printf '%s%s%s\n' "$BLUE" "$line" "$PLAIN"
}

lab() { LAB=$LAB DIRECTOR_BIN=$BIN "$SCRIPTS/lab" "$@"; }

proves() { printf '%sproves:%s %s\n' "$GREEN" "$PLAIN" "$*"; }

fail() {
    printf '%snot as it should be:%s %s\n' "$RED" "$PLAIN" "$*"
    if [ -f "$LOG" ]; then
        printf "The end of the director's log (demo --keep leaves the lab standing, for you to look at):\n"
        tail -n 20 "$LOG"
    fi
    exit 1
}

expect() { [[ $ANSWER == *"$1"* ]] || fail "the answer lacks '$1'"; }

expect_exactly() { [ "$ANSWER" = "$1" ] || fail "the answer should be: $1"; }

# A client's connection held open across steps: session_open, then session_request for each request.
session_open() {
    show exec client -- python3 scripts/lib/http-session.py "$VIP" 8888
    coproc SESSION { node_exec client /usr/bin/python3 "$SCRIPTS/lib/http-session.py" "$VIP" 8888; }
    disown "$SESSION_PID" # else bash reports its end
    read -r SESSION_ADDRESS <&"${SESSION[0]}"
    printf 'connected from %s\n' "$SESSION_ADDRESS"
}

session_request() {
    printf 'on the held connection: GET /\n'
    echo / >&"${SESSION[1]}"
    read -r ANSWER <&"${SESSION[0]}"
    printf '%s\n' "$ANSWER"
}

# The session may have ended by itself, as after a reset.
session_close() {
    [ -z "${SESSION_PID:-}" ] || kill "$SESSION_PID" 2>/dev/null || true
}

other_server() { [[ $1 == *.71. ]] && echo "This is 192.168.2.72." || echo "This is 192.168.2.71."; }

demo_direct_access() {
    step "A server, reached through the director without any service"
    run exec client -- curl -s http://192.168.2.71:9999/
    expect_exactly "This is 192.168.2.71."
    proves "what is no service's business the kernel behind the director forwards as always"
}

demo_ipvsadm() {
    step "The virtual service, by Debian's own ipvsadm"
    run ipvsadm -C
    run ipvsadm -A -t 192.168.18.58:8888 -s rr
    run ipvsadm -a -t 192.168.18.58:8888 -r 192.168.2.71:9999 -m
    run ipvsadm -a -t 192.168.18.58:8888 -r 192.168.2.72:9999 -m
    run ipvsadm -L -n
    expect "TCP  192.168.18.58:8888 rr"
    expect "  -> 192.168.2.71:9999            Masq    1      0          0"
    expect "  -> 192.168.2.72:9999            Masq    1      0          0"
    run ipvsadm -L --timeout
    expect_exactly "Timeout (tcp tcpfin udp): 900 120 300"
    proves "an LVS administrator's commands, and their answers, are the ones he knows"
}

demo_round_robin() {
    local line previous='' count=0
    step "20 new connections"
    # shellcheck disable=SC2016 # the client's shell counts
    run exec client -- sh -c 'for i in $(seq 20); do curl -s http://192.168.18.58:8888/; done'
    while read -r line; do
        [[ $line =~ ^This\ is\ 192\.168\.2\.7[12]\.$ && $line != "$previous" ]] || fail "no turn: $line"
        previous=$line
        count=$((count + 1))
    done <<<"$ANSWER"
    [ "$count" = 20 ] || fail "$count answers, not 20"
    proves "round robin: the two servers take strict turns"
}

demo_keep_alive() {
    step "50 requests on one keep-alive connection"
    run exec client -- sh -c "curl -s -w 'connections made: %{num_connects}\n' '$URL/[1-50]' | sort | uniq -c"
    expect "50 This is 192.168.2.7"
    expect " 1 connections made: 1"
    expect "49 connections made: 0"
    proves "a connection stays with the server it was given to"
}

demo_expiry() {
    local first
    step "An entry's life: seen in -Lnc, gone after its timeout"
    session_open
    session_request
    first=$ANSWER
    run_connections
    grep -qE "^TCP 14:5[0-9]  ESTABLISHED $SESSION_ADDRESS +192.168.18.58:8888 +192.168.2.7[12]:9999" \
        <<<"$ANSWER" || fail "no ESTABLISHED entry of $SESSION_ADDRESS"
    run ipvsadm --set 1 120 300
    run ipvsadm -L --timeout
    expect_exactly "Timeout (tcp tcpfin udp): 1 120 300"
    session_request
    [ "$ANSWER" = "$first" ] || fail "another server answered on the same connection"
    printf '(3 s of silence: a running timer changes at its next packet, so the last request counts)\n'
    sleep 3
    run_connections
    [[ $ANSWER != *"$SESSION_ADDRESS "* ]] || fail "the entry of $SESSION_ADDRESS is still there"
    session_request
    expect_exactly "connection reset"
    run exec client -- curl -s "$URL/"
    expect_exactly "$(other_server "$first")"
    run ipvsadm --set 900 120 300
    session_close
    proves "an idle entry goes at its time; its connection is reset, and a new one is scheduled anew"
}

demo_udp() {
    local first
    step "UDP"
    run ipvsadm -A -u 192.168.18.58:8888 -s rr
    run ipvsadm -a -u 192.168.18.58:8888 -r 192.168.2.71:9999 -m
    run ipvsadm -a -u 192.168.18.58:8888 -r 192.168.2.72:9999 -m
    run exec client -- sh -c 'echo hello | nc -u -W 1 -w 3 192.168.18.58 8888'
    first=$(head -n 1 <<<"$ANSWER")
    expect "This is 192.168.2.7"
    expect "hello"
    run exec client -- sh -c 'echo again | nc -u -W 1 -w 3 192.168.18.58 8888'
    expect "$(other_server "$first")"
    expect "again"
    run_connections
    [ "$(grep -cE '^UDP 04:5[0-9]  UDP         192.168.18.10:' <<<"$ANSWER")" = 2 ] || fail "not two UDP entries"
    proves "datagrams are balanced as connections are"
}

demo_download() {
    local sum
    step "A download of 200 MB"
    make_download
    sum=$(sha256sum <"$FILES/200MB")
    printf 'the sum of the file on the servers: %s\n' "$sum"
    run exec client -- sh -c "curl -s $URL/files/200MB | sha256sum"
    expect_exactly "$sum"
    proves "a long transfer arrives whole and unaltered"
}

# outbound EXPECTED: server1 connects to the client; the client must see it come from EXPECTED.
outbound() {
    local listener
    show exec client -- nc -nlvp 7777
    node client timeout 10 nc -nlvp 7777 >"$STATE/outbound" 2>&1 </dev/null &
    listener=$!
    wait_until 5 client_listens 7777 || fail "the client does not listen"
    run exec server1 -- sh -c "echo hello from server1 | nc -N -w 3 $CLIENT_ADDRESS 7777"
    wait "$listener" || fail "the connection did not arrive: $(cat "$STATE/outbound")"
    ANSWER=$(cat "$STATE/outbound")
    printf '%s\n' "$ANSWER"
    expect "Connection received on $1 "
    expect "hello from server1"
}

client_listens() { [ -n "$(node client ss -Hltn "sport = $1")" ]; }

demo_outbound() {
    step "A server's own outbound connection"
    outbound 192.168.2.71
    run exec director -- nft 'table ip lab { chain postrouting { type nat hook postrouting priority srcnat; oifname "front" masquerade; }; }'
    run exec director -- nft list table ip lab
    outbound "$VIP"
    run exec director -- nft delete table ip lab
    proves "a server reaches out by plain forwarding, and by the kernel's own masquerading"
}

demo_ping() {
    step "Ping"
    run exec client -- ping -c 2 -i 0.2 -W 2 "$VIP"
    expect " 0% packet loss"
    run exec server1 -- ping -c 2 -i 0.2 -W 2 "$CLIENT_ADDRESS"
    expect " 0% packet loss"
    proves "the director answers at its addresses, and passes ping on"
}

demo_closed_port() {
    step "A port without a service"
    run_failing exec client -- nc -nvz -w 3 "$VIP" 81
    expect "Connection refused"
    proves "a closed port is refused at once by the kernel behind the director (RST), not left to time out"
}

demo() {
    bring_up
    [ "$KEEP" = yes ] || trap take_down EXIT
    printf 'client 192.168.18.10 ── director 192.168.18.58 | 192.168.2.90 ── server1 192.168.2.71, server2 192.168.2.72\n'
    demo_direct_access
    demo_ipvsadm
    demo_round_robin
    demo_keep_alive
    demo_expiry
    demo_udp
    demo_download
    demo_outbound
    demo_ping
    demo_closed_port
    trap - EXIT
    if [ "$KEEP" = yes ]; then
        printf '\nEvery step was seen. The lab stands; scripts/lab down takes it down.\n'
        return
    fi
    step "Taking the lab down"
    show down
    take_down
    if [ -n "$(existing_nodes)" ] || [ -e "$STATE" ]; then fail "something is left"; fi
    proves "nothing is left of it"
    printf '\nEvery step was seen.\n'
}
