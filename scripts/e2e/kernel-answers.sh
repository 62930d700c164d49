#!/usr/bin/env bash
# What is no service's is answered by the kernel behind the twins, once: ping, closed ports, its own services.
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2

for address in $VIP $BACK; do
    answer=$(client ping -c 5 -i 0.2 -W 2 "$address")
    contains "ping of $address" "5 received, 0% packet loss" "$answer"
    if [[ $answer == *duplicate* ]]; then fail "ping was answered twice: $answer"; fi
done
contains "ping of the back address from a server" "0% packet loss" "$(server 1 ping -c 2 -i 0.2 -W 2 $BACK)"
contains "a ping of full frames" "0% packet loss" "$(client ping -c 2 -i 0.2 -W 2 -M "do" -s 1472 $VIP)"
contains "a ping in fragments" "0% packet loss" "$(client ping -c 2 -i 0.2 -W 2 -s 4000 $VIP)"

contains "a closed TCP port" "Connection refused" "$(client nc -nvz -w 3 $VIP 81 2>&1 || true)"
same "a closed UDP port" refused "$(datagram $VIP 81)"

# No usable server: ICMP port unreachable for TCP too, so the client need not wait.
ipvsadm -A -t $VIP:82 -s rr
contains "a service without a server" "Connection refused" "$(client nc -nvz -w 3 $VIP 82 2>&1 || true)"
ipvsadm -a -t $VIP:82 -r 192.168.2.71:9999 -m -w 0
sleep 1.1 # the kernel's icmp_ratelimit: one a second
contains "all servers at weight 0" "Connection refused" "$(client nc -nvz -w 3 $VIP 82 2>&1 || true)"

# A SYN to the service whose IP options are wrong: the sender is told where.
contains "wrong options" "parameter problem at 20 from $VIP" "$(client /usr/bin/python3 - <<END
import socket, struct
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
told = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
told.settimeout(3)
ends = socket.inet_aton("$CLIENT") + socket.inet_aton("$VIP")
header = struct.pack("!BBHHHBBH", 0x46, 0, 44, 1, 0, 64, 6, 0) + ends + bytes([7, 9, 4, 0])
out.sendto(header + struct.pack("!HHIIBBHHH", 4000, 8888, 1, 0, 0x50, 2, 500, 0, 0), ("$VIP", 0))
while (answer := told.recv(500))[20] != 12:
    pass
print("parameter problem at", answer[24], "from", socket.inet_ntoa(answer[12:16]))
END
)"

# As often as the kernel's own switches say, which the director follows.
told() { client sh -c "for n in \$(seq $1); do nc -nvz -w 1 $VIP 82 2>&1; done" | grep -c "Connection refused" || true; }
director sysctl -qw net.ipv4.icmp_ratelimit=0
sleep 1
same "without a limit" 20 "$(told 20)"
director sysctl -qw net.ipv4.icmp_ratelimit=60000
sleep 1
same "one a minute" 0 "$(told 2)"
director sysctl -qw net.ipv4.icmp_ratelimit=1000
sleep 1

# A daemon in the director's own namespace, as sshd would be.
director sh -c 'echo "hello from the director" | timeout 10 nc -nl 22' &
listens() { director ss -Hltn 'sport = 22' | grep -q .; }
wait_until 5 listens || fail "nothing listens on port 22"
same "the director's own port 22" "hello from the director" "$(client timeout 5 nc -n $VIP 22 </dev/null)"
wait

# A datagram or segment that finds its time to live at an end is answered from the VIP.
contains "TTL 1 to the service" "$VIP" "$(client /usr/bin/python3 - <<END
import socket
IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
s.settimeout(3)
try:
    s.connect(("$VIP", 8888))
except OSError as error:
    _, messages, _, _ = s.recvmsg(500, 500, MSG_ERRQUEUE)
    for _, _, data in messages:
        print("icmp type", data[5], "from", socket.inet_ntoa(data[20:24]))
END
)"
