#!/usr/bin/env bash
# A wrong file is refused before anything starts: every mistake at once, each with line, column and a caret.
source "$(dirname "$0")/../lib/e2e.sh"

DIRECTOR_ENDED=yes
if [ -z "${DIRECTOR_BIN:-}" ]; then build_director; fi
BIN=$(binaries)
good=$WORK/good.toml
lab config >"$good"

"$BIN/director" --config "$good" --check || fail "the lab's own file does not pass --check"
for file in "$ROOT"/config/*.toml; do
    [ "${file##*/}" != Cargo.toml ] || continue
    "$BIN/director" --config "$file" --check || fail "$file does not pass --check"
done

# refuses FILE: with --check and without, exit status 1, quickly, and nothing was started; ANSWER is stderr.
refuses() {
    local file=$1 option code
    for option in --check ''; do
        code=0
        # shellcheck disable=SC2086 # the option may be none
        ANSWER=$(timeout 5 "$BIN/director" --config "$file" $option 2>&1 >"$WORK/out") || code=$?
        same "exit status with $(basename "$file") $option" 1 "$code"
        same "standard output" "" "$(cat "$WORK/out")"
        if [[ $ANSWER == *EAL* ]]; then fail "something was started: $ANSWER"; fi
    done
}

# Each line: what is wrong | the sed script that makes it so | the value the caret stands under | the message.
cases() {
    cat <<'END'
an unknown key|s/^mbufs/mbuffs/|mbuffs|mbuffs
an unknown section|s/^\[connections\]/[connectionz]/|connectionz|connectionz
a word for a number|s/^mbufs = .*/mbufs = "many"/|"many"|mbufs
a number out of range|s/^mbufs = .*/mbufs = -1/|-1|mbufs
no worker|s/^lcores = .*/lcores = "0"/|"0"|worker
lcores that are none|s/^lcores = .*/lcores = "a-b"/|"a-b"|lcore
an address that is none|s/192.168.18.58.24/192.168.18.580\/24/|"192.168.18.580/24"|192.168.18.580
a prefix that is none|s/192.168.18.58.24/192.168.18.58\/33/|"192.168.18.58/33"|33
a device without its interface|s/net_af_packet0,iface=veth-front/net_af_packet0/|"net_af_packet0"|interface
a driver that does not exist|s/net_af_packet0/net_afpacket0/|"net_afpacket0,iface=veth-front"|net_afpacket0
two ports of one name|s/^name = "back"/name = "front"/|"front"|front
two ports of one interface|s/veth-back/veth-front/|"net_af_packet1,iface=veth-front"|veth-front
an interface name too long|s/^name = "back"/name = "a-name-of-16-char"/|"a-name-of-16-char"|15
no TOML|s/^mbufs = .*/mbufs = = 3/||TOML
a key given twice|s/^mbufs = .*/mbufs = 4096\nmbufs = 4096/|mbufs|twice
a timeout out of range|$a [timeouts]\ntcp = 0|0|tcp
a sysctl that is none|$a [ipvs]\nsloppy_tpc = true|sloppy_tpc|sloppy_tcp
a scheduler that is none|$a [[service]]\nprotocol = "tcp"\naddress = "192.168.18.58:80"\nscheduler = "rrr"|"rrr"|rr
a service without a port|$a [[service]]\nprotocol = "tcp"\naddress = "192.168.18.58"\nscheduler = "rr"|"192.168.18.58"|port
a protocol that is none|$a [[service]]\nprotocol = "icmp"\naddress = "192.168.18.58:80"\nscheduler = "rr"|"icmp"|icmp
a service given twice|$a [[service]]\nprotocol = "tcp"\naddress = "192.168.18.58:80"\nscheduler = "rr"\n[[service]]\nprotocol = "tcp"\naddress = "192.168.18.58:80"\nscheduler = "rr"|"192.168.18.58:80"|already
a forwarding method that is not built|$a [[service]]\nprotocol = "tcp"\naddress = "192.168.18.58:80"\nscheduler = "rr"\n[[service.server]]\naddress = "192.168.2.71:80"\nforward = "tunneling"|"tunneling"|masquerading
a MAC address that is none|$a [[neighbor]]\naddress = "192.168.2.71"\nmac = "02:00:00:00:0d"|"02:00:00:00:0d"|MAC
a route without a gateway in reach|$a [[route]]\ndestination = "10.0.0.0/8"\ngateway = "172.16.0.1"|"172.16.0.1"|172.16.0.1
END
}

while IFS='|' read -r what change value message; do
    file=$WORK/${what// /-}.toml
    sed -E "$change" "$good" >"$file"
    refuses "$file"
    [[ $ANSWER == *"$file:"[0-9]*:[0-9]* ]] || fail "$what: no file, line and column in"$'\n'"$ANSWER"
    [[ $ANSWER == *^* ]] || fail "$what: no caret in"$'\n'"$ANSWER"
    grep -qE -- "$message" <<<"$ANSWER" || fail "$what: '$message' is not named in"$'\n'"$ANSWER"
    if [ -n "$value" ]; then
        # The place that was named holds the value.
        found=no
        while IFS=: read -r line column; do
            [[ $(sed -n "${line}p" "$file" | cut -c "$column-") != "$value"* ]] || found=yes
        done < <(grep -oE "$file:[0-9]+:[0-9]+" <<<"$ANSWER" | sed "s|^$file:||")
        same "$what: whether a place named holds $value in"$'\n'"$ANSWER" yes $found
    fi
done < <(cases)

# All at once.
sed -E 's/^mbufs/mbuffs/; s/^lcores = .*/lcores = "0"/; s/192.168.2.90.24/192.168.2.900\/24/' "$good" >"$WORK/three.toml"
refuses "$WORK/three.toml"
for part in mbuffs worker 192.168.2.900; do
    contains "three mistakes at once" "$part" "$ANSWER"
done

# No file, a directory, no text.
refuses "$WORK/nosuch.toml"
contains "no file" "nosuch.toml" "$ANSWER"
refuses "$WORK"
printf '\xff\xfe\x00' >"$WORK/binary.toml"
refuses "$WORK/binary.toml"
: >"$WORK/empty.toml"
refuses "$WORK/empty.toml"
contains "an empty file" port "$ANSWER"
