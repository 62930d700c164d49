#!/usr/bin/env bash
# Entries live as long as IPVS's: a timer for each state, --set heard at an entry's next packet, gone within 1 s.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2

# What is left of the held connection's time, in seconds.
left() { session_entry | awk -F '[ :]' '{ print $2 * 60 + $3 }'; }

# within WHAT LEAST MOST FOUND; a busy machine may take a while to ask.
within() {
    if [ "$4" -lt "$2" ] || [ "$4" -gt "$3" ]; then fail "$1: expected $2 to $3, found $4"; fi
}

# An open connection; its timer starts anew with each packet.
session
request
matches "after a request" "ESTABLISHED 14:5[0-9]" "$(session_entry)"
fresh=$(left)
within "seconds left after a request" 896 899 "$fresh"
sleep 3
silent=$(left)
within "seconds left after 3 s of silence" $((fresh - 7)) $((fresh - 3)) "$silent"
request
within "seconds left after another request" $((silent + 1)) 899 "$(left)"

# --set changes a running timer at the next packet only.
ipvsadm --set 50 40 30
within "seconds left right after --set" 890 899 "$(left)"
request
within "seconds left after a packet" 46 49 "$(left)"

# A short timeout: gone within a second of its time, then the connection is reset and scheduled anew.
ipvsadm --set 4 0 0
same "0 keeps the others" "Timeout (tcp tcpfin udp): 4 40 30" "$(ipvsadm -L --timeout)"
request
first=$ANSWER
sleep 2
[ -n "$(session_entry)" ] || fail "the entry went before its time"
sleep 3
same "the entry after 5 s" "" "$(session_entry)"
request
same "the next request" "connection reset" "$ANSWER"
[ "$(get 1)" != "$first" ] || fail "the new connection was not scheduled anew"
ipvsadm --set 900 120 300

# Closed by the client first: TIME_WAIT for 120 s.
ipvsadm -C
service tcp 1
get 1 >/dev/null
in_state() { ipvsadm -Lnc | awk '/^TCP/ { print $3, $2 }' | grep -E "$1" >/dev/null; }
wait_until 2 in_state '^TIME_WAIT 01:5[5-9]$' || fail "no TIME_WAIT of 120 s: $(ipvsadm -Lnc)"

# A half-open connection: SYN_RECV for 60 s, counted as active.
node_drop() { server 1 nft "table ip quiet { chain input { type filter hook input priority 0; $1 }; }"; }
node_drop "tcp dport 9999 drop;"
client timeout 0.5 nc -n $VIP 8888 </dev/null || true
in_state '^SYN_RECV 00:5[5-9]$' || fail "no SYN_RECV of 60 s: $(ipvsadm -Lnc)"
server 1 nft delete table ip quiet

# Reset by the client: CLOSE for 10 s, then gone.
client /usr/bin/python3 - <<END
import socket, struct
s = socket.create_connection(("$VIP", 8888))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()  # with lingering for 0 s: a RST
END
in_state '^CLOSE 00:0[6-9]$' || fail "no CLOSE of 10 s: $(ipvsadm -Lnc)"
sleep 6
in_state '^CLOSE ' || fail "CLOSE went before its time"
closed_gone() { ! in_state '^CLOSE '; }
wait_until 7 closed_gone || fail "CLOSE is still there after 13 s: $(ipvsadm -Lnc)"

# UDP: 300 s, never counted as active.
service udp 1
udp_get 1 >/dev/null
matches "a UDP entry" "UDP 04:5[5-9]  UDP .*" "$(ipvsadm -Lnc | grep ^UDP)"
same "UDP entries are inactive" "0 1" "$(ipvsadm -Ln -u $SERVICE | awk '/->.*9999/ { print $5, $6 }')"
