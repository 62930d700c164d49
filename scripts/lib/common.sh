# Shared by the scripts of this directory; sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # for the scripts that source this
SCRIPTS=$ROOT/scripts

# Messages of tools are compared with what is expected.
export LC_ALL=C.UTF-8

# Where rustup puts Rust: it is found without a new login, and before a distribution's.
RUST_BIN=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
[[ :$PATH: == *":$RUST_BIN:"* ]] || export PATH=$RUST_BIN:$PATH
# After `su` root has the user's PATH, where what administers the machine is not.
export PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

# The command lines that a script's head has.
usage() { sed -n 's/^#   //p' "$SCRIPTS/${0##*/}"; }

# need_root [WHAT FOR]
need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root ${1:-to make network namespaces and interfaces}"
}

# wait_until SECONDS COMMAND…: repeats COMMAND until it succeeds; fails when SECONDS have passed.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# Where the director's binaries are: $DIRECTOR_BIN (then nothing is built), else the release build.
binaries() {
    printf '%s\n' "${DIRECTOR_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release}"
}

build_director() {
    [ -z "${DIRECTOR_BIN:-}" ] || return 0
    (cd "$ROOT" && cargo build --release --locked)
}

# The CPUs this process may use, one a line (the kernel lists them as "0-1,4").
allowed_cpus() {
    local ranges range
    ranges=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
    for range in ${ranges//,/ }; do
        seq "${range%-*}" "${range#*-}"
    done
}
