"""One HTTP connection held open: http-session.py HOST PORT sends a request for each line it reads.

Prints first its own address, then the body of each answer, or "connection reset" and the like.
"""

import http.client
import sys

host, port = sys.argv[1], int(sys.argv[2])
connection = http.client.HTTPConnection(host, port, timeout=10)
connection.connect()
connection.auto_open = 0  # one connection, never a second
print("%s:%d" % connection.sock.getsockname(), flush=True)
for line in sys.stdin:
    try:
        connection.request("GET", line.strip())
        print(connection.getresponse().read().decode().strip(), flush=True)
    except ConnectionResetError:
        print("connection reset", flush=True)
        break
    except (OSError, http.client.HTTPException) as error:
        print("failed:", error, flush=True)
        break
