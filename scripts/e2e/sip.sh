#!/usr/bin/env bash
# SIP: the persistence engine keeps a call's datagrams on one server, whatever port they come from.
source "$(dirname "$0")/../lib/e2e.sh"

up --servers 3
ipvsadm -A -u "$VIP:5060" -s rr -p 60 --pe sip
for number in 1 2 3; do ipvsadm -a -u "$VIP:5060" -r "192.168.2.7$number:9999" -m; done

# call ID: a datagram of a call, from a port of its own; the digits of the server that answered.
call() {
    client sh -c "printf 'OPTIONS sip:x SIP/2.0\r\n%s\r\n\r\n' '$1' | nc -u -W 1 -w 2 $VIP 5060" | server_digits
}

same "each call has its server, and keeps it" "73 72 73 71 72" \
    "$(for id in 'Call-ID: aaa@h' 'i: bbb@h' 'call-id: aaa@h' 'Call-ID: ccc@h' 'Call-ID: bbb@h'; do call "$id"; done | paste -sd' ')"
same "no Call-ID, no server" "" "$(call 'Max-Forwards: 70')"
same "which is counted" 1 "$(status .drops.no_call_id)"

same "the listing" "UDP  $VIP:5060 rr persistent 60 pe sip" "$(ipvsadm -Ln | grep ^UDP)"
contains "the status" "rr persistent 60 pe sip" "$(lab ctl status)"
matches "the templates" "\
192.168.18.10:0 192.168.18.58:5060 192.168.2.71:9999 sip ccc@h
192.168.18.10:0 192.168.18.58:5060 192.168.2.72:9999 sip bbb@h
192.168.18.10:0 192.168.18.58:5060 192.168.2.73:9999 sip aaa@h" \
    "$(ipvsadm -Lnc --persistent-conn | awk '$4 ~ /:0$/ { print $4, $5, $6, $7, $8 }' | sort)"

saved=$(ipvsadm -S -n)
contains "as saved" "-A -u 192.168.18.58:5060 -s rr -p 60 --pe sip" "$saved"
ipvsadm -C
ipvsadm -R <<<"$saved"
same "saved and restored" "$saved" "$(ipvsadm -S -n)"
same "and its clients find their servers" "71" "$(call 'Call-ID: ccc@h')"
ipvsadm -E -u "$VIP:5060" -s rr -p 60
same "-E without --pe ends it" "UDP  $VIP:5060 rr persistent 60" "$(ipvsadm -Ln | grep ^UDP)"
