#!/usr/bin/env bash
# Direct routing: servers that have the VIP themselves get the frames as they are, and answer the client directly.
source "$(dirname "$0")/../lib/e2e.sh"

SERVICE=$VIP:9999 # ports are not translated
URL=http://$SERVICE

# has_vip SERVER: as LVS-DR wants it: the VIP is on lo and not announced; the way to clients is not the director's.
has_vip() {
    server "$1" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
    server "$1" ip address add $VIP/32 dev lo
    server "$1" ip route replace 192.168.18.0/24 dev eth0
}

up --one-armed
has_vip 1
has_vip 2
ipvsadm -A -t "$SERVICE" -s rr
ipvsadm -a -t "$SERVICE" -r 192.168.2.71:9999 -g
ipvsadm -a -t "$SERVICE" -r 192.168.2.72:9999 # ipvsadm's default
same "the listing" "\
  -> 192.168.2.71:9999            Route   1      0          0         
  -> 192.168.2.72:9999            Route   1      0          0         " "$(ipvsadm -Ln | tail -n 2)"
saved=$(ipvsadm -S -n)
contains "saved" "-a -t $SERVICE -r 192.168.2.71:9999 -g -w 1" "$saved"
ipvsadm -C
ipvsadm -R <<<"$saved"
contains "/proc/net/ip_vs" "  -> C0A80247:270F      Route   1 " "$(lab ctl exec -- cat /proc/net/ip_vs)"

same "connections" "72 71 72 71 72 71" "$(get 6)"
same "their entries" "6 FIN_WAIT" "$(ipvsadm -Lnc | awk '$1 == "TCP" { print $3 }' | sort | uniq -c | xargs)"
same "nothing came back through the director" "6 0" "$(ipvsadm -Ln --stats --exact | awk '$1 == "TCP" { print $3, $5 }')"

# Long requests and long answers.
seq 1 3000000 | head --bytes=20MB >"$STATE/files/20MB" || true
sum=$(sha256sum <"$STATE/files/20MB")
same "a download" "$sum" "$(client sh -c "curl -s $URL/files/20MB | sha256sum")"
client curl -s --max-time 60 -T - "$URL/uploads/20MB" <"$STATE/files/20MB"
same "an upload" "$sum" "$(cat "$STATE"/server[12]/uploads/20MB | sha256sum)"

# A server of the same service may be masqueraded; what is known of it stays when the method changes.
ipvsadm -C
service tcp 2
ipvsadm -e -t "$SERVICE" -r 192.168.2.72:9999 -g
session "$VIP" 9999
request
same "directly" 72 "$ANSWER"
same "the server talks to the client as the VIP" "$VIP:9999 $SESSION_ADDRESS" \
    "$(server 2 ss -Htn state established 'sport = 9999' | awk '{ print $3, $4 }')"
ipvsadm -e -t "$SERVICE" -r 192.168.2.72:9999 -m -w 0
request
same "as it began" 72 "$ANSWER"

# The director may be a server itself: then the packets are its kernel's.
ipvsadm -C
ipvsadm -A -t "$SERVICE" -s rr
ipvsadm -a -t "$SERVICE" -r $VIP:9999 -g
(director timeout 10 nc -lp 9999 <<<"the director itself" >"$WORK/heard") &
director_listens() { director ss -Hltn 'sport = 9999' | grep -q .; }
wait_until 5 director_listens || fail "nobody listens at the director"
same "the director itself" "the director itself" "$(client nc -w 2 $VIP 9999 <<<hello)"
wait $!
same "it heard" hello "$(cat "$WORK/heard")"
