#!/usr/bin/env bash
# FTP: active and passive, downloads and uploads, by vsftpd on both servers and curl; also where commands and answers
# come in pieces.
# timeout: 240
source "$(dirname "$0")/../lib/e2e.sh"

VIP6=2001:db8:18::58
up_with "s|\"$VIP/24\"|&, \"$VIP6/64\"|; s|\"$BACK/24\"|&, \"2001:db8:2::90/64\"|" --servers 2

# Each server's files: its name, a long one, and a directory for uploads.
files=$STATE/ftp
for number in 1 2; do
    root=$files/server$number
    mkdir -p "$root/pub" "$root/incoming" "$root/empty"
    echo "This is 192.168.2.7$number." >"$root/pub/name"
    seq 1 3000000 >"$root/pub/long"
    chmod 777 "$root/incoming"
    cat >"$root/vsftpd.conf" <<END
listen=YES
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=$root
write_enable=YES
anon_upload_enable=YES
anon_umask=022
connect_from_port_20=YES
secure_chroot_dir=$root/empty
seccomp_sandbox=NO
END
    server "$number" vsftpd "$root/vsftpd.conf" >"$root/log" 2>&1 &
done
sum=$(sha256sum <"$files/server1/pub/long")
listens() { server "$1" ss -Hltn "sport = 21" | grep -q .; }
for number in 1 2; do wait_until 5 listens "$number" || fail "vsftpd does not listen: $(cat "$files/server$number/log")"; done

ipvsadm -A -t "$VIP:21" -s rr
for number in 1 2; do ipvsadm -a -t "$VIP:21" -r "192.168.2.7$number:21" -m; done

# curl's words for each way of opening a data connection.
declare -A MODES=([PASV]="--disable-epsv" [EPSV]="" [PORT]="--ftp-port - --disable-eprt" [EPRT]="--ftp-port -")
for mode in PASV EPSV PORT EPRT; do
    read -ra words <<<"${MODES[$mode]}"
    ftp() { client curl -s -v --max-time 20 "${words[@]}" "$@" 2>"$WORK/curl"; }
    same "$mode, both servers" "71 72" "$(for _ in 1 2; do ftp "ftp://$VIP/pub/name"; done | sort | server_digits)"
    contains "curl's words" "> $mode" "$(cat "$WORK/curl")"
    same "$mode, a download" "$sum" "$(ftp "ftp://$VIP/pub/long" | sha256sum)"
    ftp -T "$files/server1/pub/long" "ftp://$VIP/incoming/$mode" || fail "$mode, an upload: $(cat "$WORK/curl")"
    same "$mode, an upload" "$sum" "$(cat "$files"/server?/incoming/$mode | sha256sum)"
    same "$mode, a listing" "name" "$(ftp --list-only "ftp://$VIP/pub/" | tr -d '\r' | grep name)"
done
contains "the data connections are listed" "$VIP:20 " "$(ipvsadm -Lnc)"

# Answers in pieces: segments of 36 bytes and more, which end within the address of 227.
for size in 48 52 60; do
    client ip route replace 192.168.18.0/24 dev eth0 src "$CLIENT" advmss "$size"
    matches "segments of at most $size" "7[12] 7[12]" "$(
        for _ in 1 2; do client curl -s --max-time 20 --disable-epsv "ftp://$VIP/pub/name"; done | server_digits
    )"
done
client ip route replace 192.168.18.0/24 dev eth0 src "$CLIENT"

# A session by hand, a byte a segment. What is expected is listed, and another host's port is not.
cat >"$WORK/session.py" <<'END'
import re, socket, sys
control = socket.create_connection((sys.argv[1], 21))
control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
answers = control.makefile("r", newline="\r\n")

def say(line):
    for byte in line.encode() + b"\r\n":
        control.send(bytes([byte]))
    return answers.readline()

answers.readline()
say("USER anonymous"), say("PASS x")
answer = say("PASV")
print(re.search(r"\((.*)\)", answer)[1])
*address, high, low = re.search(r"\((.*)\)", answer)[1].split(",")
print(int(high) * 256 + int(low), flush=True)
input()
data = socket.create_connection((".".join(address), int(high) * 256 + int(low)))
say("RETR pub/name")
print(data.makefile().read().strip())
print(answers.readline()[:3], flush=True)
for _ in range(2):
    print(say("PORT 192,168,2,72,11,185")[:3], flush=True)
    input()
END
coproc FTP { exec "$SCRIPTS/lab" exec client -- /usr/bin/python3 "$WORK/session.py" "$VIP"; }
disown "$FTP_PID"
read -r -t 10 address <&"${FTP[0]}"
read -r -t 10 port <&"${FTP[0]}"
matches "the address of 227" "192,168,18,58,[0-9]+,[0-9]+" "$address"
matches "the entry that waits" "LISTEN $CLIENT:0 $VIP:$port 192.168.2.7[12]:$port" \
    "$(ipvsadm -Lnc | awk '$4 == "'"$CLIENT:0"'" { print $3, $4, $5, $6 }')"
echo >&"${FTP[1]}"
read -r -t 10 name <&"${FTP[0]}"
read -r -t 10 code <&"${FTP[0]}"
matches "what came" "This is 192.168.2.7[12]. 226" "$name $code"
# What the server says of it is its own; the director has read it before the server did.
elsewhere() { ipvsadm -Lnc | awk '$4 == "192.168.2.72:3001" { print $3, $5 }'; }
read -r -t 10 code <&"${FTP[0]}"
matches "the answer to another host's port" "[25]00" "$code"
same "nobody waits for another host" "" "$(elsewhere)"
lab ctl set ftp_loose 1
echo >&"${FTP[1]}"
read -r -t 10 code <&"${FTP[0]}"
same "unless that is wanted" "LISTEN $VIP:20" "$(elsewhere)"
lab ctl set ftp_loose 0
echo >&"${FTP[1]}"

# A client of a persistent service.
ipvsadm -E -t "$VIP:21" -s rr -p 60
matches "persistent" "(71 71 71)|(72 72 72)" "$(
    for mode in PASV EPSV PORT; do
        read -ra words <<<"${MODES[$mode]}"
        client curl -s --max-time 20 "${words[@]}" "ftp://$VIP/pub/name"
    done | server_digits
)"

# Over IPv6, which has EPSV and EPRT.
director sysctl -qw net.ipv6.conf.all.forwarding=1
address6 client 2001:db8:18::10 $VIP6
for number in 1 2; do
    root=$files/server$number
    address6 server$number 2001:db8:2::7$number 2001:db8:2::90
    sed "s/^listen=YES/listen_ipv6=YES\nlisten_address6=2001:db8:2::7$number/" "$root/vsftpd.conf" >"$root/vsftpd6.conf"
    server "$number" vsftpd "$root/vsftpd6.conf" >"$root/log6" 2>&1 &
done
listens6() { server "$1" ss -H6ltn "sport = 21" | grep -q .; }
for number in 1 2; do wait_until 5 listens6 "$number" || fail "vsftpd does not listen: $(cat "$files/server$number/log6")"; done
wait_until 10 client ping -6 -c 1 -W 1 $VIP6 >/dev/null || fail "the VIP does not answer ping"
ipvsadm -A -t "[$VIP6]:21" -s rr
for number in 1 2; do ipvsadm -a -t "[$VIP6]:21" -r "[2001:db8:2::7$number]:21" -m; done
for mode in EPSV EPRT; do
    read -ra words <<<"${MODES[$mode]}"
    ftp() { client curl -g -s -v --max-time 20 "${words[@]}" "$@" 2>"$WORK/curl"; }
    same "IPv6, $mode, both servers" "71 72" "$(for _ in 1 2; do ftp "ftp://[$VIP6]/pub/name"; done | sort | server_digits)"
    contains "curl's words" "> $mode" "$(cat "$WORK/curl")"
    same "IPv6, $mode, a download" "$sum" "$(ftp "ftp://[$VIP6]/pub/long" | sha256sum)"
    ftp -T "$files/server1/pub/long" "ftp://[$VIP6]/incoming/six-$mode" || fail "IPv6, $mode, an upload: $(cat "$WORK/curl")"
    same "IPv6, $mode, an upload" "$sum" "$(cat "$files"/server?/incoming/six-$mode | sha256sum)"
done
contains "data connections over IPv6" "[$VIP6]:20 " "$(ipvsadm -Lnc)"
