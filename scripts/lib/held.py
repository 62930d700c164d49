"""Connections that stay open: held.py HOST PORT COUNT [SOURCE...] makes COUNT of them, one after the other.

Prints the last number of the server that answers on each, or "none" where none does, in one line; then waits
for the end of its input. With SOURCEs, connections come from these addresses in turn.
"""

import socket
import struct
import sys

host, port, count, sources = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
held, answers = [], []
for number in range(count):
    source = (sources[number % len(sources)], 0) if sources else None
    try:
        connection = socket.create_connection((host, port), timeout=5, source_address=source)
        # Ends with a RST, so that nothing of it is left for long.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        held.append(connection)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: director\r\n\r\n")
        answer = b""
        while not answer.endswith(b".\n"):
            part = connection.recv(4096)
            if not part:
                break
            answer += part
        answers.append(answer.decode().rstrip(".\n").rpartition(".")[2])
    except OSError:
        answers.append("none")
print(*answers, flush=True)
sys.stdin.read()
