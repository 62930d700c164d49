#!/usr/bin/env bash
# Ten thousand services of ten servers each, and ten thousand servers of one: loaded, listed, saved and deleted by ipvsadm, while traffic goes on.
# timeout: 300
source "$(dirname "$0")/../lib/e2e.sh"

# rules: what `ipvsadm -S -n` prints of 10,000 services of 10 servers, newest server first as it does.
rules() {
    awk 'BEGIN {
        for (n = 0; n < 10000; n++) {
            vip = "10." int(n / 2500) "." int(n / 10) % 250 ".1:" 8000 + n % 10
            print "-A -t " vip " -s rr"
            for (s = 10; s > 0; s--) print "-a -t " vip " -r 172.16." n % 250 "." s ":80 -m -w 1"
        }
    }'
}

# servers: 9,998 servers for the service that has traffic; with weight 0, since there is nobody there.
servers() {
    awk -v service=$SERVICE 'BEGIN {
        for (n = 0; n < 9998; n++) print "-a -t " service " -r 172.17." int(n / 250) "." n % 250 + 1 ":80 -m -w 0"
    }'
}

listed() { ipvsadm -Ln | grep -c "^$1"; }

up
service tcp 2
session
request
first=$ANSWER
client sh -c "while [ ! -e $WORK/enough ]; do curl -s --max-time 5 $URL/ || echo failed; sleep 0.05; done" >"$WORK/traffic" &
traffic=$!

rules >"$WORK/rules"
ipvsadm -R <"$WORK/rules"
same "services" 10001 "$(listed TCP)"
same "servers" 100002 "$(listed '  -> [0-9]')"
same "services, as directorctl counts them" "10001 100002" \
    "$(status '.services | "\(length) \(map(.servers | length) | add)"')"
same "lines of /proc/net/ip_vs" $((3 + 10001 + 100002)) "$(director directorctl exec -- cat /proc/net/ip_vs | wc -l)"
ipvsadm -S -n | grep -v "$SERVICE" | sort >"$WORK/saved"
sort "$WORK/rules" | cmp - "$WORK/saved" || fail "what was saved is not what was loaded"

# A change is for the very next packet.
for port in 9001 9002 9003 9004 9005; do
    ipvsadm -A -t $VIP:$port -s rr
    ipvsadm -a -t $VIP:$port -r 192.168.2.71:9999 -m
    same "a new service" 71 "$(client curl -s --max-time 5 http://$VIP:$port/ | server_digits)"
    ipvsadm -D -t $VIP:$port
    refused client curl -s --max-time 5 http://$VIP:$port/
done

# And so is what a file of rules changes, even one that ends in the middle.
for port in 9011 9012 9013 9014 9015; do
    code=0
    ipvsadm -R 2>/dev/null <<END || code=$?
-A -t $VIP:$port -s rr
-a -t $VIP:$port -r 192.168.2.71:9999 -m
-A -t $VIP:0 -s rr
-D -t $VIP:$port
END
    same "the exit status of a line that is none" 2 $code
    same "a service of a file of rules" 71 "$(client curl -s --max-time 5 http://$VIP:$port/ | server_digits)"
    ipvsadm -D -t $VIP:$port
done

servers >"$WORK/servers"
ipvsadm -R <"$WORK/servers"
same "servers of one service" 10000 "$(ipvsadm -Ln -t $SERVICE | grep -c '^  -> [0-9]')"
same "connections to the two servers among 10,000 that are there" 4 "$(get 4 | wc -w)"

request
same "the server of the connection that was there before" "$first" "$ANSWER"
touch "$WORK/enough"
wait $traffic
if grep -q failed "$WORK/traffic"; then fail "$(grep -c failed "$WORK/traffic") connections failed meanwhile"; fi
[ "$(wc -l <"$WORK/traffic")" -gt 20 ] || fail "there was no traffic meanwhile"

ipvsadm -C
same "services after -C" 0 "$(ipvsadm -Ln | grep -c ^TCP || true)"
service tcp 2
same "and anew" 2 "$(get 2 | wc -w)"
