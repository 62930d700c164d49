#!/usr/bin/env bash
# The configuration file is read again, by directorctl reload and SIGHUP: all of it holds, or nothing changes; no connection is lost.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

FILE=$STATE/director.toml
lab config >"$WORK/ports.toml"

# services WEIGHT1 WEIGHT2: the service on the two servers; a weight of - leaves its server out.
services() {
    local number weight
    printf '[[service]]\nprotocol = "tcp"\naddress = "%s"\nscheduler = "wrr"\n' "$SERVICE"
    for number in 1 2; do
        weight=${!number}
        [ "$weight" != - ] || continue
        printf '[[service.server]]\naddress = "192.168.2.7%d:9999"\nweight = %s\n' $number "$weight"
    done
}

# file LINES…: the lab's own configuration with these behind it.
file() {
    {
        cat "$WORK/ports.toml"
        printf '%s\n' "$@"
    } >"$FILE"
}

reload() { lab ctl reload; }

# All that a reload can change.
everything() {
    ipvsadm -S -n
    ipvsadm -L --timeout
    lab ctl get
}

# refuses WHAT PART…: a reload that fails, says each PART, and changes nothing; ANSWER is what it says.
refuses() {
    local what=$1 code=0 before part
    shift
    before=$(everything)
    ANSWER=$(reload 2>&1 >"$WORK/out") || code=$?
    same "$what: exit status" 2 "$code"
    same "$what: standard output" "" "$(cat "$WORK/out")"
    for part in "$@" "directorctl: nothing was changed"; do
        contains "$what" "$part" "$ANSWER"
    done
    same "$what: services and settings" "$before" "$(everything)"
}

{
    cat "$WORK/ports.toml"
    services 1 1
} >"$WORK/start.toml"
up --config "$WORK/start.toml"
same "nothing has changed" "the director is as $FILE says" "$(reload)"

# A download and a held connection go through all that follows.
seq 1 14000000 | head --bytes=100MB >"$STATE/files/100MB" || true
client sh -c "curl -sS --max-time 150 --limit-rate 6M $URL/files/100MB | sha256sum" >"$WORK/download" &
download=$!
session
request
mine=$ANSWER
other=$((71 + 72 - mine))
# with WEIGHT WEIGHT: services, first the held connection's server.
with() { if [ "$mine" = 71 ]; then services "$1" "$2"; else services "$2" "$1"; fi; }
still() {
    request
    same "$1: the held connection" "$mine" "$ANSWER"
}

# A weight is edited: the server drains, and keeps its connections and counters.
counted() { ipvsadm -Ln --stats --exact | awk -v s="192.168.2.$mine:9999" '$2 == s { print $3 }'; }
connections=$(counted)
file "$(with 0 1)"
same "a weight" "server 192.168.2.$mine:9999 of tcp $SERVICE changed: weight 1 -> 0" "$(reload)"
still "a drained server"
same "new connections" "$other $other" "$(get 2)"
same "its connections, counted" "$connections" "$(counted)"

# What LVS tools made beside the file stays; what they changed of the file's is again as it says.
ipvsadm -A -u $VIP:53 -s rr
ipvsadm -a -u $VIP:53 -r 192.168.2.71:53 -m
ipvsadm -e -t $SERVICE -r "192.168.2.$other:9999" -m -w 7
ipvsadm --set 77 0 88
file "$(with 1 1)" '[timeouts]' 'tcp = 600' '[ipvs]' 'sloppy_tcp = true'
same "what has changed" "timeout tcp: 77 -> 600
sloppy_tcp: 0 -> 1
server 192.168.2.$mine:9999 of tcp $SERVICE changed: weight 0 -> 1
server 192.168.2.$other:9999 of tcp $SERVICE changed: weight 7 -> 1" "$(reload)"
contains "ipvsadm's own" "-a -u $VIP:53 -r 192.168.2.71:53 -m -w 1" "$(ipvsadm -S -n)"
same "the timeouts" "Timeout (tcp tcpfin udp): 600 120 88" "$(ipvsadm -L --timeout)"
same "a switch" 1 "$(lab ctl get sloppy_tcp)"
same "once more" "the director is as $FILE says" "$(reload)"

# A server that the file names no more is deleted: its packets are dropped until it is back.
file "$(with - 1)"
same "what the file names no more" "timeout tcp: 600 -> 900
sloppy_tcp: 1 -> 0
server 192.168.2.$mine:9999 of tcp $SERVICE deleted" "$(reload)"
dropped=$(status .drops.server_gone)
(
    sleep 3
    file "$(with 1 1)"
    reload >"$WORK/back"
) &
back=$!
start=$SECONDS
still "deleted and added again"
[ $((SECONDS - start)) -ge 2 ] || fail "it was answered while its server was deleted"
[ "$(status .drops.server_gone)" -gt "$dropped" ] || fail "server_gone did not count: $(status .drops)"
wait $back
same "the server is back" "server 192.168.2.$mine:9999 of tcp $SERVICE added: weight 1" "$(cat "$WORK/back")"

# A wrong file says what director --check says, and a key that cannot change is named with its place.
file '[[service]]' 'protocol = "tcp"' 'address = "192.168.18.58"' 'scheduler = "rr"' '[timeouts]' 'tcp = 0'
refuses "a wrong file" '"192.168.18.58"' "^^^" "2 errors in $FILE"
checked=$("$(binaries)/director" --config "$FILE" --check 2>&1) || true
same "what --check says" "$checked" "${ANSWER%$'\n'directorctl: nothing was changed}"
file 'mbuffs = 7'
refuses "an unknown key" mbuffs
rm "$FILE"
refuses "no file" "No such file"
mkfifo "$FILE"
refuses "a pipe that nobody writes into" "$FILE is not a regular file"
rm "$FILE"
file "$(services 0 5)" '[ipvs]' 'sloppy_tcp = true'
sed -i 's/^capacity = .*/capacity = 7/; s/veth-back/veth-rear/; s/^idle = "sleep"/idle = "poll"/' "$FILE"
refuses "what cannot change" "\`capacity\` of [connections] cannot change while the director runs" \
    "it runs with capacity = 100000: put that back, or restart the director" \
    "\`device\` of [[port]]" "\`idle\` of [dpdk]" "3 errors in $FILE" "^^^^"
line=$(grep -n '^capacity' "$FILE" | cut -d: -f1)
contains "its place" "[$FILE:$line:12]" "$ANSWER"
still "after mistakes"

# SIGHUP does the same; what it cannot do is in the log, and the director goes on.
hangup() { kill -HUP "$(cat "$STATE/director.pid")"; }
logged() { tail -n "+$seen" "$STATE/director.log" | grep -q "$1"; }
seen=$(($(wc -l <"$STATE/director.log") + 1))
hangup
wait_until 5 logged "cannot change while the director runs" || fail "SIGHUP with a refused file is not in the log"
file "$(services 3 4)"
seen=$(($(wc -l <"$STATE/director.log") + 1))
hangup
wait_until 5 logged "again: 2 changes" || fail "SIGHUP is not in the log"
same "the weights" "3 4" "$(ipvsadm -S -n | sed -n 's/.*:9999 -m -w //p' | sort | paste -sd' ')"

# Each reload takes one server out and the other in; no new connection finds none.
client wrk --threads 1 --connections 5 --duration 6s -H "Connection: close" "$URL/" >"$WORK/wrk" &
load=$!
for number in $(seq 12); do
    file "$(services $((number % 2 * 5)) $(((number + 1) % 2 * 5)))"
    reload >/dev/null
    sleep 0.3
done
wait $load
if grep -E 'Socket errors|Non-2xx' "$WORK/wrk"; then fail "connections failed: $(cat "$WORK/wrk")"; fi
[ "$(sed -n 's/^ *\([0-9]*\) requests in.*/\1/p' "$WORK/wrk")" -gt 100 ] || fail "no load: $(cat "$WORK/wrk")"
same "drops for want of a server" 0 "$(status '.drops.no_server // 0')"

# An address of a twin comes with its service, and goes with it.
second=192.168.18.59
file "$(services 0 5)" "$(services - 1 | sed "s/$VIP/$second/")"
sed -i "s|\"$VIP/24\"|\"$VIP/24\", \"$second/24\"|" "$FILE"
same "an address" "address $second/24 of front added
service tcp $second:8888 added: wrr
server 192.168.2.72:9999 of tcp $second:8888 added: weight 1" "$(reload)"
answers() { [ "$(client curl -s --max-time 2 http://$second:8888/)" = "This is 192.168.2.72." ]; }
wait_until 5 answers || fail "the service of the new address does not answer"
file "$(services 0 5)"
same "without it" "address $second/24 of front deleted
service tcp $second:8888 deleted" "$(reload)"
same "the addresses of front" "$VIP/24" "$(director ip -4 -brief address show front | awk '{ print $3 $4 }')"

# A route and a neighbour of the file come, change and go; what ip has set meanwhile stays. What the kernel refuses changes
# nothing.
route() { printf '[[route]]\ndestination = "10.9.0.0/16"\ngateway = "%s"\n' "$1"; }
neighbor() { printf '[[neighbor]]\naddress = "192.168.2.99"\nmac = "02:00:00:00:0d:%s"\n' "$1"; }
routes() { director ip route show 10.9.0.0/16 | sed 's/ proto.*//; s/ *$//'; }
neighbors() { director ip neigh show 192.168.2.99 dev back | sed 's/ *$//'; }
director ip route add 10.8.0.0/16 via 192.168.2.72
file "$(services 0 5)" "$(route 192.168.2.71)" "$(neighbor 01)"
same "with a route and a neighbour" "neighbour 192.168.2.99 at 02:00:00:00:0d:01 on back added
route 10.9.0.0/16 via 192.168.2.71 on back added" "$(reload)"
same "the route" "10.9.0.0/16 via 192.168.2.71 dev back" "$(routes)"
same "the neighbour" "192.168.2.99 lladdr 02:00:00:00:0d:01 PERMANENT" "$(neighbors)"
director ip route del 10.9.0.0/16
file "$(services 0 5)" "$(route 192.168.2.72)" "$(neighbor 02)"
reload >"$WORK/out"
same "the route changed" "10.9.0.0/16 via 192.168.2.72 dev back" "$(routes)"
same "the neighbour changed" "192.168.2.99 lladdr 02:00:00:00:0d:02 PERMANENT" "$(neighbors)"
file "$(services 0 7)" "$(neighbor 03)" "$(route 192.168.2.71)" '[[route]]' 'destination = "10.10.0.0/16"' \
    'gateway = "203.0.113.9"' 'port = "back"'
if ANSWER=$(reload 2>&1); then fail "a gateway that cannot be reached is taken: $ANSWER"; fi
contains "a gateway that cannot be reached" "setting route 10.10.0.0/16 via 203.0.113.9 on back" "$ANSWER"
same "the weights after a refusal" "0 5" "$(ipvsadm -S -n | sed -n 's/.*:9999 -m -w //p' | sort | paste -sd' ')"
same "the route after a refusal" "10.9.0.0/16 via 192.168.2.72 dev back" "$(routes)"
same "the neighbour after a refusal" "192.168.2.99 lladdr 02:00:00:00:0d:02 PERMANENT" "$(neighbors)"
# What went when the twin was set down is back with a reload, and a twin that is down is no reason to refuse one.
director ip link set back down
file "$(services 0 7)" "$(route 192.168.2.72)" "$(neighbor 02)"
code=0
ANSWER=$(reload 2>"$WORK/missing") || code=$?
contains "a reload while a twin is down" "weight 5 -> 7" "$ANSWER"
same "a reload while a twin is down: exit status" 1 "$code"
same "what is missing" "directorctl: the director is as $FILE says but for this:
directorctl: setting route 10.9.0.0/16 via 192.168.2.72 on back: " "$(sed 's/: Received.*/: /' "$WORK/missing")"
director ip link set back up
same "the route of a twin that was down" " " " $(routes)"
same "a reload of the same" "the director is as $FILE says" "$(reload)"
same "the route again" "10.9.0.0/16 via 192.168.2.72 dev back" "$(routes)"
director ip route add 10.8.0.0/16 via 192.168.2.72
still "after the twin was down"

file "$(services 0 5)"
same "without them" "neighbour 192.168.2.99 at 02:00:00:00:0d:02 on back deleted
route 10.9.0.0/16 via 192.168.2.72 on back deleted
server 192.168.2.72:9999 of tcp $SERVICE changed: weight 7 -> 5" "$(reload)"
same "what is left of them" " " "$(routes) $(neighbors)"
contains "the route that ip set" "via 192.168.2.72" "$(director ip route show 10.8.0.0/16)"

# All that went through it.
still "after all"
wait $download || fail "the download failed"
same "the download" "$(sha256sum <"$STATE/files/100MB")" "$(cat "$WORK/download")"
file ''
same "a service" "service tcp $SERVICE deleted" "$(reload)"

# The first address of a twin is replaced: what somebody else has set on it stays.
other=192.168.18.77
director ip address add $other/24 dev front
director ip route add 203.0.113.0/24 via 192.168.18.10 dev front
file ''
sed -i "s|\"$VIP/24\"|\"$second/24\"|" "$FILE"
same "another address" "address $second/24 of front added
address $VIP/24 of front deleted" "$(reload)"
same "the addresses of front" "$second/24 $other/24" \
    "$(director ip -4 -brief address show front | grep -o '192[0-9./]*' | sort | paste -sd' ')"
contains "the route" "via 192.168.18.10" "$(director ip route show 203.0.113.0/24)"
same "what is left" "-A -u $VIP:53 -s rr" "$(ipvsadm -S -n | head -n 1)"

# A SIGHUP that comes before the director forwards is remembered: here as soon as the process takes note of it (signal 1 is bit 0).
notes_hangups() {
    [[ $(cat "/proc/$(cat "$STATE/director.pid" 2>/dev/null)/status" 2>/dev/null) =~ ^Name:[[:space:]]director.*SigCgt:[[:space:]]([0-9a-f]+) ]] &&
        [ $((0x${BASH_REMATCH[1]} & 1)) = 1 ]
}
lab stop director
wait_until 5 [ -e "$STATE/director.exit" ] || fail "the director did not end"
seen=$(($(wc -l <"$STATE/director.log") + 1))
lab start director &
starting=$!
# Without a pause between two looks.
deadline=$((SECONDS + 10))
until notes_hangups; do [ $SECONDS -lt $deadline ] || fail "the director does not take note of SIGHUP"; done
hangup
logged "forwarding" && say "it forwarded already: nothing is shown of a SIGHUP before it does"
wait $starting || fail "a SIGHUP has ended the director"
wait_until 5 logged "again: 0 changes" || fail "a SIGHUP before it forwards is not remembered"
