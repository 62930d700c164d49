#!/usr/bin/env bash
# keepalived manages the director as it does the kernel: it adds what is healthy, takes out what dies, puts it back.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"
source "$(dirname "$0")/../lib/keepalived.sh"

up
real_server() {
    cat <<END
    real_server 192.168.2.7$1 9999 {
        weight 1
        HTTP_GET {
            url {
                path /
                status_code 200
            }
            connect_timeout 2
            retry 1
            delay_before_retry 1
        }
    }
END
}
cat >"$WORK/keepalived.conf" <<END
global_defs {
    router_id lab
    lvs_timeouts tcp 800 tcpfin 110 udp 200
}
virtual_server $VIP 8888 {
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
$(real_server 1)
$(real_server 2)
}
END

start_keepalived
servers() { ipvsadm -Ln -t $SERVICE 2>/dev/null | sed -n 's/.*-> 192.168.2.\(7[0-9]\):9999 .*/\1/p' | paste -sd' '; }

expect_servers "at the start" "71 72"
same "its timeouts" "Timeout (tcp tcpfin udp): 800 110 200" "$(ipvsadm -L --timeout)"
same "both serve" "71 72" "$(get 2 | tr ' ' '\n' | sort | paste -sd' ')"

lab stop server1
expect_servers "a dead server is taken out" "72"
same "only the living one serves" "72 72 72" "$(get 3)"

lab start server1
expect_servers "and put back" "71 72"
same "both serve again" "71 72" "$(get 2 | tr ' ' '\n' | sort | paste -sd' ')"

end_keepalived
gone() { [ -z "$(ipvsadm -S -n)" ]; }
wait_until 10 gone || fail "keepalived ended, its service did not: $(ipvsadm -Ln)"
wait "$KEEPALIVED"
same "the timeouts it found" "Timeout (tcp tcpfin udp): 900 120 300" "$(ipvsadm -L --timeout)"
