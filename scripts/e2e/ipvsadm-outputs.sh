#!/usr/bin/env bash
# ipvsadm's listings are to the letter what the kernel's IPVS answers: headers, widths, order, trailing blanks.
source "$(dirname "$0")/../lib/e2e.sh"

up
same "an empty table" "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn" "$(ipvsadm -Ln)"
same "timeouts" "Timeout (tcp tcpfin udp): 900 120 300" "$(ipvsadm -L --timeout)"
same "no connections" "\
IPVS connection entries
pro expire state       source             virtual            destination" "$(ipvsadm -Lnc)"
same "no sync daemon" "" "$(ipvsadm -L --daemon)"

ipvsadm -A -u 192.168.18.58:53 -s rr
ipvsadm -A -t 192.168.18.58:8888 -s rr
ipvsadm -A -t 192.168.18.58:80 -s rr
ipvsadm -a -t 192.168.18.58:80 -r 192.168.2.72:80 -m -w 65535
ipvsadm -a -t 192.168.18.58:80 -r 192.168.2.71:8081 -m -w 0
ipvsadm -a -t 192.168.18.58:8888 -r 192.168.2.72:9999 -m -x 100 -y 50
ipvsadm -a -t 192.168.18.58:8888 -r 192.168.2.71:9999 -m

same "all services, sorted" "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.18.58:80 rr
  -> 192.168.2.71:8081            Masq    0      0          0         
  -> 192.168.2.72:80              Masq    65535  0          0         
TCP  192.168.18.58:8888 rr
  -> 192.168.2.71:9999            Masq    1      0          0         
  -> 192.168.2.72:9999            Masq    1      0          0         
UDP  192.168.18.58:53 rr" "$(ipvsadm -Ln)"
same "-l is -L" "$(ipvsadm -Ln)" "$(ipvsadm -ln)"
same "without -n ports have names" "TCP  192.168.18.58:http rr" "$(ipvsadm -L | grep http | head -n 1)"
same "one service, without the version" "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
UDP  192.168.18.58:53 rr" "$(ipvsadm -Ln -u 192.168.18.58:53)"
same "thresholds" "\
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  192.168.18.58:8888 rr
  -> 192.168.2.71:9999            0          0          0          0         
  -> 192.168.2.72:9999            100        50         0          0         " \
    "$(ipvsadm -Ln --thresholds -t $SERVICE)"
same "persistent connections" "\
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  192.168.18.58:8888 rr
  -> 192.168.2.71:9999            1         0           0          0         
  -> 192.168.2.72:9999            1         0           0          0         " \
    "$(ipvsadm -Ln --persistent-conn -t $SERVICE)"

# One connection: SYN, ACK, request, ACK, FIN, ACK or thereabouts; conns and the sums are what is sure.
session
request
same "the connection's server" 71 "$ANSWER"
same "an active connection" "\
  -> 192.168.2.71:9999            Masq    1      1          0         
  -> 192.168.2.72:9999            Masq    1      0          0         " "$(ipvsadm -Ln -t $SERVICE | tail -n 2)"
matches "its entry" "TCP 14:5[0-9]  ESTABLISHED 192\.168\.18\.10:[0-9]+ +192\.168\.18\.58:8888 +192\.168\.2\.71:9999" \
    "$(ipvsadm -Lnc | tail -n 1 | sed 's/ *$//')"
source=${SESSION_ADDRESS#*:}
same "columns of the entry" \
    "$(printf 'TCP 14:59  ESTABLISHED %-18s %-18s %s' "$CLIENT:$source" $SERVICE 192.168.2.71:9999)" \
    "$(ipvsadm -Lnc | tail -n 1 | sed 's/14:5[0-9]/14:59/; s/ *$//')"

# What --stats shows is refreshed every 2 s.
statistics_show() { ipvsadm -Ln --stats -t $SERVICE | grep -q '^TCP .* 1 '; }
wait_until 4 statistics_show || fail "no connection in the statistics: $(ipvsadm -Ln --stats)"
same "headers of the statistics" "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port" "$(ipvsadm -Ln --stats | head -n 3)"
same "headers of the rates" "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port" "$(ipvsadm -Ln --rate | head -n 3)"
mapfile -t rows < <(ipvsadm -Ln --stats -t $SERVICE | tail -n 3)
matches "statistics of the service" "TCP  192.168.18.58:8888 {18}1 {8}[4-6] {8}[2-5] +[0-9]+ +[0-9]+" "${rows[0]}"
matches "statistics of the server" "  -> 192.168.2.71:9999 {19}1 {8}[4-6] {8}[2-5] +[0-9]+ +[0-9]+" "${rows[1]}"
same "a server without connections" \
    "  -> 192.168.2.72:9999                   0        0        0        0        0" "${rows[2]}"
read -r _ _ _ in_packets _ in_bytes _ <<<"${rows[1]}"
[ "$in_bytes" -ge $((in_packets * 40)) ] || fail "bytes are IP total lengths, at least 40 a packet: ${rows[1]}"

ipvsadm -Z
same "zeroed" "TCP  192.168.18.58:8888                  0        0        0        0        0" \
    "$(ipvsadm -Ln --stats -t $SERVICE | grep ^TCP)"
same "--exact, all digits in wider columns" "TCP 192.168.18.58:8888 0 0 0 0 0" \
    "$(ipvsadm -Ln --stats --exact -t $SERVICE | grep ^TCP | tr -s ' ' | sed 's/ $//')"

ipvsadm --set 1000 0 0
same "0 keeps a timeout" "Timeout (tcp tcpfin udp): 1000 120 300" "$(ipvsadm -L --timeout)"
ipvsadm -C
same "cleared" "$(printf 'IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn')" \
    "$(ipvsadm -Ln)"
