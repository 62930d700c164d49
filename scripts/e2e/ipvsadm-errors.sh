#!/usr/bin/env bash
# What ipvsadm refuses, or the director refuses it: the kernel's messages and exit codes.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
UNICAST='Invalid operation.  Possibly wrong module version, address not unicast, ...'
HELP="Try \`ipvsadm -h' or 'ipvsadm --help' for more information."

# Each line: exit status | arguments | message on stderr. Before each there is one service,
# SERVICE, with one server, 192.168.2.71:9999; FREE is a port of the VIP without one.
cases() {
    cat <<END
255|-A -t SERVICE -s rr|Service already exists
255|-A -t SERVICE -s wlc|Service already exists
255|-A -t FREE -s nosuch|Scheduler or persistence engine not found
255|-A -t FREE -s twos|Scheduler or persistence engine not found
255|-E -t FREE -s rr|No such service
255|-E -t SERVICE -s nosuch|Scheduler or persistence engine not found
255|-D -t FREE|No such service
255|-Z -t FREE|No such service
1|-L -t FREE|No such service
1|-Ln -u SERVICE|No such service
1|-L -f 7|No such service
255|-a -t FREE -r 192.168.2.71:9999 -m|Service not defined
255|-e -t FREE -r 192.168.2.71:9999 -m|Service not defined
255|-d -t FREE -r 192.168.2.71:9999|Service not defined
255|-a -t SERVICE -r 192.168.2.71:9999 -m|Destination already exists
255|-e -t SERVICE -r 192.168.2.72:9999 -m|No such destination
255|-d -t SERVICE -r 192.168.2.72:9999|No such destination
255|-a -t SERVICE -r 224.0.0.1:80 -m|$UNICAST
255|-a -t SERVICE -r 0.0.0.0:80 -m|$UNICAST
255|-a -t SERVICE -r 192.168.2.72:9999 -m -x 1 -y 2|Numerical result out of range
255|-a -t SERVICE -r 192.168.2.72:9999 -m -y 2|Numerical result out of range
255|-e -t SERVICE -r 192.168.2.71:9999 -m -x 1 -y 2|Numerical result out of range
2|-a -t SERVICE -r 192.168.2.72:9999 -m -w -1|illegal weight specified
2|-a -t SERVICE -r 192.168.2.72:9999 -m -w abc|illegal weight specified
2|-a -t SERVICE -r 192.168.2.72:9999 -m -w 2147483648|illegal weight specified
2|-A -t 192.168.18.58:99999 -s rr|illegal virtual server address[:port] specified
2|-A -t :80 -s rr|illegal virtual server address[:port] specified
2|-A -t 300.1.1.1:80 -s rr|illegal virtual server address[:port] specified
2|-a -t SERVICE -r 300.1.1.1:80 -m|illegal real server address[:port] specified
2|-A -t 192.168.18.58 -s rr|Zero port specified for non-persistent service
2|-A -t FREE -s rr -o|One-Packet Scheduling is only for UDP virtual services
2|-A -f 0 -s rr|invalid fwmark value \`0' specified
2|-A -t FREE -s rr -p 0|invalid timeout value \`0' specified
2|-A -t FREE -s rr -p 2678401|invalid timeout value \`2678401' specified
2|-A -t FREE -s rr -b flag-9|invalid scheduler flag \`flag-9'
2|-A -t FREE -s rr -b sh-port|incompatible scheduler flag \`sh-port'
2|-A|You need to supply the 'service-address' option for the 'add-service' command
2|-d -t SERVICE|You need to supply the 'real-server' option for the 'delete-server' command
2|-A -t FREE -r 192.168.2.71:80|Illegal 'real-server' option with the 'add-service' command
2|-A -t FREE -t SERVICE|multiple 'service-address' options specified
2|-a -t SERVICE -r 192.168.2.72:9999 -m -g|multiple 'forwarding-method' options specified
2|-A -D|invalid option \`-D'
2|-L junk|unexpected argument junk
255|-A -t|-t: missing argument
255|-A --foo|--foo: unknown option
255|--foo|$HELP
255|-n|$HELP
2|-a -t SERVICE -r [2001:db8::2]:80 -m|Different address family is allowed only for tunneling servers
2|-L --timeout --daemon|The option 'daemon' conflicts with the 'timeout' option in the 'list' command
2|--set 1 2|--set option requires 3 timeout values
2|--set a b c|invalid timeout value \`a' specified
0|-a -t SERVICE -r 127.0.0.1:80 -m|
0|-a -t SERVICE -r 8.8.8.8:80 -m|
0|-a -t SERVICE -r 192.168.18.58:80 -m|
0|-a -t SERVICE -r 192.168.2.72:9999 -m -w 65536|
0|-e -t SERVICE -r 192.168.2.71:9999 -m -x 10 -y 5|
0|-d -t SERVICE -r 192.168.2.71:9999|
0|-D -t SERVICE|
0|-Z|
0|-C|
END
}

count=0
while IFS='|' read -r expected arguments message; do
    ipvsadm -C
    service tcp 1
    arguments=${arguments//SERVICE/$SERVICE}
    arguments=${arguments//FREE/$VIP:81}
    status=0
    # shellcheck disable=SC2086 # the arguments are words
    answer=$(ipvsadm $arguments 2>&1 </dev/null) || status=$?
    same "exit status of: ipvsadm $arguments ($answer)" "$expected" "$status"
    if [ -n "$message" ]; then
        contains "message of: ipvsadm $arguments" "$message" "$answer"
    else
        same "output of: ipvsadm $arguments" "" "$answer"
    fi
    count=$((count + 1))
done < <(cases)
same "all cases were tried" "$(cases | wc -l)" "$count"

# What is not built must be refused, not accepted and ignored.
ipvsadm -C
for refusal in "-A -t $SERVICE -s twos" "-A -u $SERVICE -s rr -p --pe nosuch"; do
    # shellcheck disable=SC2086
    refused ipvsadm $refusal
done
service tcp 1
for refusal in "-i --tun-type gue --tun-port 6080" "-i --tun-type gre"; do
    # shellcheck disable=SC2086
    refused ipvsadm -a -t $SERVICE -r 192.168.2.72:8888 $refusal
done
same "nothing of it was kept" "1 1" "$(ipvsadm -Ln | grep -c '^TCP') $(ipvsadm -Ln | grep -c '^  -> 192')"
