#!/usr/bin/env bash
# Persistent services: a client's connections go to one server, by templates that ipvsadm shows and that outlive
# their service.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up --servers 3
client ip address add 192.168.18.11/24 dev eth0

# from HOST COUNT [PORT]: the servers that so many connections of a host are answered by.
from() {
    client sh -c "for i in \$(seq $2); do curl -s --max-time 5 --interface $1 http://$VIP:${3:-8888}/; done" | server_digits
}

# servers PORT [SERVER-PORT]: real servers .71 to .73 of the service at a port.
servers() {
    for number in 1 2 3; do ipvsadm -a -t "$VIP:$1" -r "192.168.2.7$number:${2:-9999}" -m; done
}

templates() { ipvsadm -Lnc | awk '$4 ~ /:0$/ { print $3, $4, $5, $6 }' | sort; }

ipvsadm -A -t "$SERVICE" -s rr -p 360
servers 8888
same "a client stays" "73 73 73" "$(from "$CLIENT" 3)"
same "another has another server" "72 72" "$(from 192.168.18.11 2)"
same "the templates" "\
ASSURED 192.168.18.10:0 192.168.18.58:8888 192.168.2.73:9999
ASSURED 192.168.18.11:0 192.168.18.58:8888 192.168.2.72:9999" "$(templates)"
matches "a template's time" "05:5[0-9]" "$(ipvsadm -Lnc | awk '$4 == "192.168.18.10:0" { print $2 }')"
same "which are no connections, but counted" "\
TCP  192.168.18.58:8888 rr persistent 360
  -> 192.168.2.71:9999            1         0           0          0         
  -> 192.168.2.72:9999            1         1           0          2         
  -> 192.168.2.73:9999            1         1           0          3         " \
    "$(ipvsadm -Ln --persistent-conn | tail -n 4)"
same "the status has them apart" "5 2" "$(status '.connections | "\(.active) \(.templates)"')"
contains "and how the service schedules" "rr persistent 360" "$(lab ctl status)"

# The weight 0 is for new clients; unless templates of such servers expire.
ipvsadm -e -t "$SERVICE" -r 192.168.2.73:9999 -m -w 0
same "the template wins over the weight 0" "73" "$(from "$CLIENT" 1)"
lab ctl set expire_quiescent_template 1
same "it does no longer" "71 71" "$(from "$CLIENT" 2)"
same "the old one is listed until its time is up" "\
ASSURED 192.168.18.10:0 192.168.18.58:65535 192.168.2.73:65535
ASSURED 192.168.18.10:0 192.168.18.58:8888 192.168.2.71:9999
ASSURED 192.168.18.11:0 192.168.18.58:8888 192.168.2.72:9999" "$(templates)"

# Services come and go, clients stay with their servers.
saved=$(ipvsadm -S -n)
ipvsadm -C
same "templates outlive the service" 3 "$(templates | wc -l)"
ipvsadm -R <<<"$saved"
same "saved and restored" "$saved" "$(ipvsadm -S -n)"
same "as before" "72 72" "$(from 192.168.18.11 2)"
same "both" "71" "$(from "$CLIENT" 1)"
ipvsadm -d -t "$SERVICE" -r 192.168.2.72:9999
same "a deleted server's clients go elsewhere" "71 71" "$(from 192.168.18.11 2)"
ipvsadm -E -t "$SERVICE" -s rr
same "-E without -p ends it" "TCP  $SERVICE rr" "$(ipvsadm -Ln | grep ^TCP)"
ipvsadm -C

# A short time, ended while its connections are there: a minute more.
ipvsadm -A -t "$VIP:8001" -s rr -p 2
servers 8001
from "$CLIENT" 1 8001 >/dev/null
sleep 3.5
matches "armed once more" "00:5[0-9]" "$(ipvsadm -Lnc | awk '$5 == "192.168.18.58:8001" && $4 ~ /:0$/ { print $2 }')"

# All ports, a network as one client; a service of the port itself comes first.
ipvsadm -C
ipvsadm -A -t "$VIP:0" -s rr -p 300 -M 255.255.255.0
for number in 1 2 3; do ipvsadm -a -t "$VIP:0" -r "192.168.2.7$number" -m; done
same "two ports, two hosts, one server" "73 73" "$(from "$CLIENT" 1 9999) $(from 192.168.18.11 1 9999)"
same "its one template" "ASSURED 192.168.18.0:0 192.168.18.58:0 192.168.2.73:0" "$(templates | grep ':0 192.168.2')"
ipvsadm -A -t "$VIP:9999" -s rr
ipvsadm -a -t "$VIP:9999" -r 192.168.2.71:9999 -m
same "the service of the port" "71" "$(from "$CLIENT" 1 9999)"
same "the listing" "\
TCP  192.168.18.58:0 rr persistent 300 mask 255.255.255.0
  -> 192.168.2.71:0               Masq    1      0          0         
  -> 192.168.2.72:0               Masq    1      0          0         " \
    "$(ipvsadm -Ln -t "$VIP:0" | sed -n '3,5p')"
contains "as saved" "-A -t 192.168.18.58:0 -s rr -p 300 -M 255.255.255.0" "$(ipvsadm -S -n)"
