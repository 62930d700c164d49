#!/usr/bin/env bash
# keepalived under load: servers whose check fails get no new connections and keep the old ones (inhibit_on_failure); with
# none left the sorry server answers; no request of a client fails meanwhile.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"
source "$(dirname "$0")/../lib/keepalived.sh"

up --servers 3
real_server() {
    touch "$WORK/up$1"
    cat <<END
    real_server 192.168.2.7$1 9999 {
        weight 1
        inhibit_on_failure
        MISC_CHECK {
            misc_path "/usr/bin/test -e $WORK/up$1"
            misc_timeout 2
            user root
        }
    }
END
}
cat >"$WORK/keepalived.conf" <<END
global_defs {
    router_id lab
    script_user root
}
virtual_server $VIP 8888 {
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    sorry_server 192.168.2.73 9999
    sorry_server_lvs_method NAT
$(real_server 1)
$(real_server 2)
}
END

start_keepalived

# "71:1 72:0": the servers and their weights.
servers() {
    ipvsadm -Ln -t $SERVICE 2>/dev/null |
        sed -n 's/.*-> 192\.168\.2\.\(7[0-9]\):9999 *Masq *\([0-9]*\) .*/\1:\2/p' | sort | paste -sd' '
}

expect_servers "at the start" "71:1 72:1"
session
request
first=$ANSWER

# It ends when it is told to, after the last phase: longer than the test may take.
# shellcheck disable=SC2016 # for the inner shell
client sh -c 'echo $$ >"$1"; exec wrk --threads 1 --connections 8 --duration 600s --timeout 10s "$2"' \
    - "$WORK/wrk.pid" "$URL/" >"$WORK/wrk" 2>&1 &
load=$!
other=$((143 - first))
for turn in 1 2; do
    rm "$WORK/up${first#7}"
    expect_servers "turn $turn, a failed check" "$(printf '%s:0\n%s:1\n' "$first" "$other" | sort | paste -sd' ')"
    same "turn $turn, new connections" "$other $other" "$(get 2)"
    request
    same "turn $turn, the connection of the server that failed" "$first" "$ANSWER"
    touch "$WORK/up${first#7}"
    expect_servers "turn $turn, the check succeeds again" "71:1 72:1"
done

rm "$WORK/up1" "$WORK/up2"
expect_servers "none left" "71:0 72:0 73:1"
same "new connections, of the sorry server" "73 73" "$(get 2)"
request
same "the old connection, beside the sorry server" "$first" "$ANSWER"
touch "$WORK/up1" "$WORK/up2"
expect_servers "both back" "71:1 72:1"
same "new connections" "71 72" "$(get 2 | tr ' ' '\n' | sort | paste -sd' ')"
request
same "the old connection" "$first" "$ANSWER"

kill -INT "$(cat "$WORK/wrk.pid")"
wait $load
requests=$(sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' "$WORK/wrk")
say "${requests:-no} requests meanwhile"
[ "${requests:-0}" -ge 1000 ] || fail "that is no load: $(cat "$WORK/wrk")"
if grep -E "Socket errors|Non-2xx" "$WORK/wrk"; then fail "requests failed under load: $(cat "$WORK/wrk")"; fi

end_keepalived
wait "$KEEPALIVED"
