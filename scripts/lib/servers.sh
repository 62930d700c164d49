# The lab's real servers: nginx and a UDP service on port 9999; sourced by scripts/lab.
# shellcheck shell=bash

SERVER_PORT=9999

# What every server offers under /files/, and takes by PUT under /uploads/.
FILES=$STATE/files

# A fixed 200 MB file, no two parts of it alike: a lost, doubled or misplaced segment shows in its sum.
make_download() {
    [ ! -e "$FILES/200MB" ] || return 0
    mkdir -p "$FILES"
    { seq 1 30000000 || true; } 2>/dev/null | head --bytes=200MB >"$FILES/200MB.part"
    mv "$FILES/200MB.part" "$FILES/200MB"
}

nginx_configuration() {
    local directory=$1 address=$2
    cat <<END
user root;
pid $directory/nginx.pid;
error_log $directory/error.log;
worker_processes 1;
worker_rlimit_nofile 20000;
events { worker_connections 16000; }
http {
    access_log off;
    default_type text/plain;
    client_max_body_size 0;
    client_body_temp_path $directory/temporary;
    proxy_temp_path $directory/temporary;
    fastcgi_temp_path $directory/temporary;
    uwsgi_temp_path $directory/temporary;
    scgi_temp_path $directory/temporary;
    keepalive_requests 1000000;
    keepalive_timeout 1h;
    sendfile on;
    server {
        listen $SERVER_PORT backlog=4096;
        listen [::]:$SERVER_PORT ipv6only=on backlog=4096;
        location / { return 200 "This is $address.\n"; }
        location /files/ { alias $FILES/; }
        location /uploads/ { alias $directory/uploads/; dav_methods PUT; }
    }
}
END
}

# start_server N: (again) both services of a server node. nginx detaches itself.
start_server() {
    local name=server$1 address directory
    address=$(server_address "$1")
    directory=$STATE/$name
    mkdir -p "$directory/uploads" "$FILES"
    nginx_configuration "$directory" "$address" >"$directory/nginx.conf"
    node "$name" nginx -c "$directory/nginx.conf" -e "$directory/error.log"
    (node_exec "$name" setsid /usr/bin/python3 "$SCRIPTS/lib/udp-server.py" "$address" "$SERVER_PORT") \
        </dev/null >>"$directory/udp.log" 2>&1 &
}

server_answers() {
    node "server$1" curl -s --max-time 1 "http://$(server_address "$1"):$SERVER_PORT/" >/dev/null &&
        node "server$1" ss -Hlun "sport = $SERVER_PORT" | grep -q .
}
