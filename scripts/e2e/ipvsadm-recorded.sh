#!/usr/bin/env bash
# Some hundred random commands, valid and not, as a kernel's IPVS answered them: output, messages and exit status.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

up
# The names that the recording has, and no question to a name server.
cat >"$WORK/hosts" <<END
127.0.0.1 localhost
192.168.18.60 vip.example
2001:db8:18::60 vip6.example
192.168.2.75 rs.example
END
printf '%s\n' 'tcpmux 1/tcp' 'ftp 21/tcp' 'fsp 21/udp' 'domain 53/tcp' 'domain 53/udp' 'http 80/tcp' \
    'https 443/tcp' 'https 443/udp' 'http-alt 8080/tcp' >"$WORK/services"
printf '%s\n' 'hosts: files' 'services: files' >"$WORK/nsswitch.conf"
cat >"$WORK/play.sh" <<END
set -eu
for file in hosts services nsswitch.conf; do mount --bind $WORK/\$file /etc/\$file; done
exec directorctl exec -- /usr/bin/python3 $SCRIPTS/lib/recorded.py $SCRIPTS/lib/recorded-ipvsadm.txt
END
answers=$(PYTHONDONTWRITEBYTECODE=1 lab exec director -- sh "$WORK/play.sh") || fail "$answers"
say "ipvsadm, as recorded: $answers"
