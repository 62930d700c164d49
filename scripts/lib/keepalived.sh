# keepalived on the director; sourced by checks.
# shellcheck shell=bash

# start_keepalived: with $WORK/keepalived.conf. Its process is KEEPALIVED.
start_keepalived() {
    lab ctl exec -- keepalived --check --dont-fork --log-console --log-detail --use-file "$WORK/keepalived.conf" \
        --pid /run/keepalived.pid --checkers_pid /run/checkers.pid </dev/null >"$WORK/keepalived.log" 2>&1 &
    # shellcheck disable=SC2034 # for the checks
    KEEPALIVED=$!
}

# end_keepalived: tells it to end; the caller waits for it.
end_keepalived() { kill -TERM "$(cat "$STATE/director/run/keepalived.pid")"; }

# expect_servers WHEN SERVERS: waits until `servers`, which the check defines, says so.
expect_servers() {
    wait_until 20 servers_are "$2" || fail "$1: the servers are '$(servers)', not '$2': $(tail -n 20 "$WORK/keepalived.log")"
}
servers_are() { [ "$(servers)" = "$1" ]; }
