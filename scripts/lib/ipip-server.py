"""A real server's end of a tunnel, for kernels without the ipip driver: ipip-server.py makes the interface ipip0 and
hands it what is in the packets that come in of IPv4 in IPv4, and of IPv6 in IPv6."""

import fcntl
import os
import select
import socket
import struct

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

inside = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(inside, TUNSETIFF, struct.pack("16sH", b"ipip0", IFF_TUN | IFF_NO_PI))
outside = [socket.socket(socket.AF_INET, socket.SOCK_RAW, 4), socket.socket(socket.AF_INET6, socket.SOCK_RAW, 41)]
for each in outside:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
while True:
    for each in select.select(outside, [], [])[0]:
        packet = each.recv(65535)
        # A raw socket of IPv4 shows the outer header, one of IPv6 does not.
        header = (packet[0] & 15) * 4 if each is outside[0] else 0
        try:
            os.write(inside, packet[header:])
        except OSError:  # not up yet
            pass
