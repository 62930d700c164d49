"""A real server's end of an IPv4-in-IPv4 tunnel, for kernels without the ipip driver: ipip-server.py makes the
interface ipip0 and hands it what is in the packets of protocol 4 that come in."""

import fcntl
import os
import socket
import struct

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

inside = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(inside, TUNSETIFF, struct.pack("16sH", b"ipip0", IFF_TUN | IFF_NO_PI))
outside = socket.socket(socket.AF_INET, socket.SOCK_RAW, 4)
outside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
while True:
    packet = outside.recv(65535)
    try:
        os.write(inside, packet[(packet[0] & 15) * 4 :])
    except OSError:  # not up yet
        pass
