#!/usr/bin/env bash
# Services of firewall marks: [[mark]] rules give new connections their mark; ipvsadm and the file make services.
source "$(dirname "$0")/../lib/e2e.sh"

lab config --servers 2 >"$WORK/director.toml"
cat >>"$WORK/director.toml" <<END

[[mark]]
mark = 1
protocol = "tcp"
destination = "$VIP"
ports = "9999,7000-7009"

[[mark]]
mark = 2
source = "192.168.18.11"
ports = "8888"

[[service]]
mark = 2
scheduler = "rr"
persistent = 60

[[service.server]]
address = "192.168.2.71:0"
END
up --config "$WORK/director.toml" --servers 2

# answers PORT COUNT: the servers that so many connections are answered by.
answers() { client sh -c "for i in \$(seq $2); do curl -s --max-time 5 http://$VIP:$1/; done" | server_digits; }

ipvsadm -A -f 1 -s rr
ipvsadm -a -f 1 -r 192.168.2.71:0 -m
ipvsadm -a -f 1 -r 192.168.2.72:0 -m
same "the listing" "\
FWM  1 rr
  -> 192.168.2.71:0               Masq    1      0          0         
  -> 192.168.2.72:0               Masq    1      0          0         
FWM  2 rr persistent 60
  -> 192.168.2.71:0               Masq    1      0          0         " "$(ipvsadm -Ln | tail -n 5)"
same "the port of the client's packet" "72 71 72" "$(answers 9999 3)"
same "their entries" "192.168.18.58:9999 192.168.2.71:9999
192.168.18.58:9999 192.168.2.72:9999" "$(ipvsadm -Lnc | awk '/^TCP/ { print $5, $6 }' | sort -u)"
same "counted" "FWM  1 3" "$(ipvsadm -Ln --stats | awk '$1 == "FWM" && $2 == 1 { print $1 "  " $2, $3 }')"

# A server with a port of its own.
ipvsadm -d -f 1 -r 192.168.2.71:0
ipvsadm -d -f 1 -r 192.168.2.72:0
ipvsadm -a -f 1 -r 192.168.2.71:9999 -m
same "a port that nobody listens on" "71" "$(answers 7005 1)"
same "no mark, no service" "" "$(answers 7010 1)"

# The order of the file: from .11 port 8888 has the mark 2, whose service comes before that of the address.
service tcp 2
same "the service of the address" "72 71" "$(answers 8888 2)"

# A save restores what it saved.
saved=$(ipvsadm -S -n)
contains "as saved" "\
-A -f 1 -s rr
-a -f 1 -r 192.168.2.71:9999 -m -w 1
-A -f 2 -s rr -p 60
-a -f 2 -r 192.168.2.71:0 -m -w 1" "$saved"
ipvsadm -C
ipvsadm -R <<<"$saved"
same "restored" "$saved" "$(ipvsadm -S -n)"
contains "the status" "fwm 1" "$(lab ctl status)"

# A persistent one has one template, of the mark.
ipvsadm -E -f 1 -s rr -p 60
ipvsadm -d -f 1 -r 192.168.2.71:9999
ipvsadm -a -f 1 -r 192.168.2.72:0 -m
answers 9999 2 >/dev/null
same "its template" "IP ASSURED 192.168.18.10:0 0.0.0.1:0 192.168.2.72:0" \
    "$(ipvsadm -Lnc | awk '$1 == "IP" { print $1, $3, $4, $5, $6 }')"
same "a missing one" "No such service" "$(ipvsadm -D -f 9 2>&1 || true)"
same "-E of one that is there" "FWM  1 wlc" "$(ipvsadm -E -f 1 -s wlc && ipvsadm -Ln | grep '^FWM  1')"

# Addresses that are the director's by a route alone.
ipvsadm -C
director ip route add local 10.9.0.0/16 dev lo
client ip route add 10.9.0.0/16 via $VIP
ipvsadm -A -t 10.9.8.7:8888 -s rr
ipvsadm -a -t 10.9.8.7:8888 -r 192.168.2.71:9999 -m
found() { [ "$(client curl -s --max-time 2 http://10.9.8.7:8888/)" = "This is 192.168.2.71." ]; }
wait_until 5 found || fail "a service of an address by a route alone does not answer"
