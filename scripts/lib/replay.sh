# Segments for net_pcap to replay for ever, as fast as a worker can take them and no slower; sourced by checks.
# shellcheck shell=bash

# replay_frames FILE CONNECTIONS [SOURCE DESTINATION]: a segment of each of so many connections, between the lab's
# client and its service unless other addresses are given. With sloppy_tcp the first of each begins it. They go to the
# MAC address of the first net_pcap port of a process, which the driver makes up.
replay_frames() {
    PYTHONPATH=$SCRIPTS/lib PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$@" <<'END'
import struct, sys
from frames import *
path, connections, *addresses = sys.argv[1:]
with open(path, "wb") as file:
    file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for number in range(int(connections)):
        side = Side("client")
        if addresses:
            side.source, side.destination = addresses
        side.sport += number
        frame = bytes.fromhex("027063617000" "020000000a01" "0800") + side.ip(TCP, side.tcp(ACK))
        frame = frame.ljust(60, b"\0")
        file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
END
}
