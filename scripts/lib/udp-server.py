"""A real server's UDP service: udp-server.py ADDRESS PORT answers each datagram with its name and the data."""

import socket
import sys

address, port = sys.argv[1], int(sys.argv[2])
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
server.bind((address, port))
while True:
    data, client = server.recvfrom(65535)
    try:
        server.sendto(f"This is {address}.\n".encode() + data, client)
    except OSError:  # the client's own trouble (an answer too long, an ICMP error): serve the next
        pass
