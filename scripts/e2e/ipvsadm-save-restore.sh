#!/usr/bin/env bash
# -S prints what -R takes: a table saved, cleared and restored is the same table.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
service udp 2
ipvsadm -e -u $SERVICE -r 192.168.2.71:9999 -m -w 7
saved=$(ipvsadm -S -n)
same "what -S prints" "\
-A -t 192.168.18.58:8888 -s rr
-a -t 192.168.18.58:8888 -r 192.168.2.71:9999 -m -w 1
-a -t 192.168.18.58:8888 -r 192.168.2.72:9999 -m -w 1
-A -u 192.168.18.58:8888 -s rr
-a -u 192.168.18.58:8888 -r 192.168.2.71:9999 -m -w 7
-a -u 192.168.18.58:8888 -r 192.168.2.72:9999 -m -w 1" "$saved"
listed=$(ipvsadm -Ln)

ipvsadm -C
same "cleared" "" "$(ipvsadm -S -n)"
ipvsadm -R <<<"$saved"
same "restored" "$listed" "$(ipvsadm -Ln)"
same "and it serves" "72 71 72 71" "$(get 4)"

# A refusal in the middle does not end a restore; a line that does not parse does.
ipvsadm -C
code=0
message=$(ipvsadm -R 2>&1 <<END) || code=$?
-A -t $VIP:81 -s rr

-A -t $VIP:81 -s rr
-A -t $VIP:82 -s rr
END
same "a refusal, then a good last line" "0 Service already exists" "$code $message"
same "the lines around it" 2 "$(ipvsadm -S -n | wc -l)"
code=0
ipvsadm -R >/dev/null 2>&1 <<END || code=$?
-A -t $VIP:83 -s rr
# comment
-A -t $VIP:84 -s rr
END
same "a line that is none" 255 "$code"
same "the line before it stays" "-A -t $VIP:83 -s rr" "$(ipvsadm -S -n | tail -n 1)"
