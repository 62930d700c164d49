#!/usr/bin/env bash
# What befalls a program on a machine that is used, and costs no connection here: no descriptors left, its
# sockets removed, a stop of some seconds, a full disk under its log.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
service tcp 2
pid=$(cat "$STATE/director.pid")
session
request
first=$ANSWER

# goes_on WHAT: the connection that was there before, and new ones.
goes_on() {
    request
    same "the old connection $1" "$first" "$ANSWER"
    same "new connections $1" "71 72" "$(get 2 | tr ' ' '\n' | sort | paste -sd' ')"
}

# Not one more descriptor: nobody can ask it anything, and packets go on (ip_forward is read from a file all the time).
prlimit --pid "$pid" --nofile=3:
sleep 1.5
goes_on "without descriptors"
refused timeout 2 "$SCRIPTS/lab" ctl status
prlimit --pid "$pid" --nofile=1024:
answers() { lab ctl status >/dev/null; }
wait_until 10 answers || fail "it does not answer when it has descriptors again"

# Very many clients that say nothing, at both sockets: it keeps descriptors for itself, and answers when they have gone.
python3 - "$STATE/director/run/director" "$pid" >"$WORK/many" <<'END'
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
directory, pid = sys.argv[1:]
clients = []
for name, kind in (("control.sock", socket.SOCK_STREAM), ("ipvs.sock", socket.SOCK_SEQPACKET)):
    for _ in range(1500):
        client = socket.socket(socket.AF_UNIX, kind)
        client.setblocking(False)
        try:
            client.connect(f"{directory}/{name}")
            clients.append(client)
        except BlockingIOError:
            time.sleep(0.001)
time.sleep(0.5)
print(len(clients), len(os.listdir(f"/proc/{pid}/fd")))
END
read -r clients descriptors <"$WORK/many"
say "$clients clients, $descriptors descriptors"
[ "$clients" -gt 700 ] || fail "those are not many clients"
[ "$descriptors" -lt 700 ] || fail "it has $descriptors descriptors of 1024 in use"
wait_until 5 answers || fail "it does not answer when very many clients have gone"
goes_on "after very many clients"

# One that says nothing has to go after a while, and takes nobody's place.
silence=$(director timeout 30 python3 -c 'import socket
client = socket.socket(socket.AF_UNIX)
client.connect("/run/director/control.sock")
print(client.recv(1))')
same "a client that says nothing" "b''" "$silence"

# All of its directory removed: the sockets are there again, and no second director takes the place.
rm -r "$STATE/director/run/director"
wait_until 10 answers || fail "it does not answer where its sockets were removed"
lists() { [[ $(ipvsadm -Ln 2>/dev/null) == *192.168.2.71:9999* ]]; }
wait_until 10 lists || fail "its services are not there: $(ipvsadm -Ln 2>&1)"
code=0
answer=$(director director --config "$STATE/director.toml" 2>&1) || code=$?
same "exit status of a second director" 1 $code
contains "why" "another director listens" "$answer"
answers || fail "the second director took the sockets with it"
sed 's#^directory = .*#directory = "/run/other"#' "$STATE/director.toml" >"$WORK/other.toml"
code=0
answer=$(director timeout 20 director --config "$WORK/other.toml" 2>&1) || code=$?
same "exit status of one with another directory and the same ports" 1 $code
contains "why" "there is an interface front already" "$answer"
goes_on "after others tried to start"

# Stopped as by a debugger or a hypervisor: it comes back to what it left.
kill -STOP "$pid"
sleep 6
kill -CONT "$pid"
goes_on "after a stop"
matches "its entry" "ESTABLISHED 14:5[0-9]" "$(session_entry)"
answers || fail "it does not forward after a stop: $(lab ctl status 2>&1)"

# A log that cannot be written. (Its own is put back: the test's end looks at it.)
lab stop director
mv "$STATE/director.log" "$WORK/director.log"
ln -s /dev/full "$STATE/director.log"
lab start director
service tcp 2
refused ipvsadm --start-daemon master
same "connections with a full disk under the log" "72 71" "$(get 2)"
answers || fail "it does not answer with a full disk under its log"
lab stop director
same "its exit status" 0 "$(cat "$STATE/director.exit")"
rm "$STATE/director.log"
mv "$WORK/director.log" "$STATE/director.log"
lab start director
