"""Sends malformed frames: frames.py INTERFACE GATEWAY-MAC SIDE ROUNDS, SIDE being client or server.

Each kind is a frame that a real one was spoilt into, on the way from the client to the virtual service or
from a server to the client. Every kind is sent ROUNDS times, not faster than a packet socket takes them.
Prints how many frames were sent. `frames.py list` names the kinds.
"""

import random
import socket
import struct
import sys
import time

CLIENT, VIP, BACK, SERVER = "192.168.18.10", "192.168.18.58", "192.168.2.90", "192.168.2.71"
ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Side:
    """Where frames come from and go to: addresses and ports of the virtual service's traffic."""

    def __init__(self, name):
        self.name = name
        if name == "client":
            self.source, self.destination, self.sport, self.dport = CLIENT, VIP, 4000, 8888
        else:
            self.source, self.destination, self.sport, self.dport = SERVER, CLIENT, 9999, 4000

    def ip(self, protocol, payload, **change):
        """An IPv4 packet; `change` overrides fields after which the header checksum is computed."""
        options = change.get("options", b"")
        header = struct.pack(
            "!BBHHHBBH4s4s",
            (change.get("version", 4) << 4) | change.get("ihl", 5 + len(options) // 4),
            0,
            change.get("length", 20 + len(options) + len(payload)),
            0x1234,
            change.get("fragment", 0),
            change.get("ttl", 64),
            protocol,
            0,
            socket.inet_aton(change.get("source", self.source)),
            socket.inet_aton(change.get("destination", self.destination)),
        )
        check = change.get("checksum", checksum(header + options))
        return header[:10] + struct.pack("!H", check) + header[12:] + options + payload

    def pseudo(self, protocol, length):
        return (
            socket.inet_aton(self.source)
            + socket.inet_aton(self.destination)
            + struct.pack("!BBH", 0, protocol, length)
        )

    def tcp(self, flags, data=b"", **change):
        options = change.get("options", b"")
        segment = struct.pack(
            "!HHIIBBHHH",
            change.get("sport", self.sport),
            change.get("dport", self.dport),
            1,
            1 if flags & ACK else 0,
            change.get("offset", 5 + len(options) // 4) << 4,
            flags,
            8192,
            0,
            0,
        )
        segment += options + data
        check = change.get("checksum", checksum(self.pseudo(TCP, len(segment)) + segment))
        return segment[:16] + struct.pack("!H", check) + segment[18:]

    def udp(self, data=b"hello", **change):
        length = change.get("length", 8 + len(data))
        header = struct.pack(
            "!HHHH", change.get("sport", self.sport), change.get("dport", self.dport), length, 0
        )
        check = checksum(self.pseudo(UDP, 8 + len(data)) + header + data) or 0xFFFF
        return header[:6] + struct.pack("!H", change.get("checksum", check)) + data

    def icmp(self, kind, code, rest, data, check=None):
        message = struct.pack("!BBHI", kind, code, 0, rest) + data
        check = checksum(message) if check is None else check
        return message[:2] + struct.pack("!H", check) + message[4:]

    def quoted(self, transport=None, **change):
        """The packet an ICMP error from this side speaks of: one it had received."""
        other = Side("server" if self.name == "client" else "client")
        other.source, other.destination = self.destination, self.source
        other.sport, other.dport = self.dport, self.sport
        return other.ip(TCP, other.tcp(ACK, b"x" * 8) if transport is None else transport, **change)


def frames(side, gateway, own):
    """All kinds: {name: frame}."""
    ethernet = gateway + own
    packets = dict(packet_kinds(side))
    kinds = {f"ipv4, {name}": ethernet + b"\x08\x00" + packet for name, packet in packets.items()}
    good = side.ip(TCP, side.tcp(SYN))
    kinds |= {
        "ethernet, no payload": ethernet + b"\x08\x00",
        "ethernet, one byte of IPv4": ethernet + b"\x08\x00\x45",
        "ethernet, unknown type": ethernet + b"\x88\xb5" + b"x" * 46,
        "ethernet, 802.3 length": ethernet + struct.pack("!H", 46) + b"\x42" * 46,
        "ethernet, somebody else's": b"\x02\xde\xad\xbe\xef\x01" + own + b"\x08\x00" + good,
        "ethernet, broadcast with unicast IPv4": b"\xff" * 6 + own + b"\x08\x00" + good,
        "ethernet, multicast with unicast IPv4": b"\x01\x00\x5e\x00\x00\x01" + own + b"\x08\x00" + good,
        "ethernet, from a multicast address": gateway + b"\x01\x00\x5e\x00\x00\x01" + b"\x08\x00" + good,
        "ethernet, padded": ethernet + b"\x08\x00" + good + b"\0" * 20,
        "arp, cut short": ethernet + b"\x08\x06" + b"\x00\x01\x08\x00\x06\x04",
        "arp, wrong lengths": ethernet + b"\x08\x06" + b"\x00\x01\x08\x00\xff\xff\x00\x01" + b"\0" * 20,
        "ipv6, cut short": ethernet + b"\x86\xdd" + b"\x60\0\0\0\0\x10\x06\x40",
        "ipv6, rubbish": ethernet + b"\x86\xdd" + b"\xff" * 60,
        "ipv6 type over IPv4": ethernet + b"\x86\xdd" + good,
        "vlan, a good packet": ethernet + b"\x81\x00\x00\x05\x08\x00" + good,
        "vlan, priority tag": ethernet + b"\x81\x00\xe0\x00\x08\x00" + good,
        "vlan, cut after the tag": ethernet + b"\x81\x00\x00\x05",
        "vlan, cut in the tag": ethernet + b"\x81\x00\x00",
        "vlan, two tags": ethernet + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00" + good,
        "vlan, ten tags": ethernet + b"\x81\x00\x00\x05" * 10 + b"\x08\x00" + good,
        "mpls": ethernet + b"\x88\x47" + b"\0\x01\x01\x40" + good,
    }
    # Mutations of a good frame, the same in every run.
    chance = random.Random(side.name)
    for number in range(200):
        source = bytearray(ethernet + b"\x08\x00" + chance.choice(list(packets.values())))
        for _ in range(chance.randint(1, 4)):
            source[chance.randrange(12, len(source))] = chance.randrange(256)
        kinds[f"mutation {number}"] = bytes(source[: chance.randint(14, len(source))])
    for number in range(50):
        kinds[f"random bytes {number}"] = ethernet + b"\x08\x00" + chance.randbytes(chance.randint(1, 200))
    return kinds


def packet_kinds(side):
    syn = side.tcp(SYN)
    ip, tcp, udp, icmp, quoted = side.ip, side.tcp, side.udp, side.icmp, side.quoted
    # IPv4's own header.
    yield "header cut at 10 bytes", ip(TCP, syn)[:10]
    yield "version 5", ip(TCP, syn, version=5)
    yield "version 0", ip(TCP, syn, version=0)
    yield "header length 4 words", ip(TCP, syn, ihl=4)
    yield "header length 0", ip(TCP, syn, ihl=0)
    yield "header longer than the packet", ip(TCP, b"", ihl=15)
    yield "total length 0", ip(TCP, syn, length=0)
    yield "total length under the header's", ip(TCP, syn, length=19)
    yield "total length over the frame's", ip(TCP, syn, length=1000)
    yield "total length 65535", ip(TCP, syn, length=65535)
    yield "total length cuts the TCP header", ip(TCP, syn, length=30)
    yield "wrong header checksum", ip(TCP, syn, checksum=0x1234)
    yield "header checksum 0", ip(TCP, syn, checksum=0)
    yield "time to live 0", ip(TCP, syn, ttl=0)
    yield "time to live 1", ip(TCP, syn, ttl=1)
    yield "from the VIP", ip(TCP, syn, source=VIP)
    yield "from the director's other address", ip(TCP, syn, source=BACK)
    yield "from 0.0.0.0", ip(TCP, syn, source="0.0.0.0")
    yield "from 127.0.0.1", ip(TCP, syn, source="127.0.0.1")
    yield "from a multicast address", ip(TCP, syn, source="224.0.0.9")
    yield "from the broadcast address", ip(TCP, syn, source="255.255.255.255")
    yield "to the broadcast address", ip(UDP, udp(), destination="255.255.255.255")
    yield "to the subnet's broadcast address", ip(UDP, udp(), destination="192.168.18.255")
    yield "to a multicast address", ip(UDP, udp(), destination="224.0.0.1")
    yield "to 127.0.0.1", ip(TCP, syn, destination="127.0.0.1")
    yield "to 0.0.0.0", ip(TCP, syn, destination="0.0.0.0")
    yield "to nowhere", ip(TCP, syn, destination="203.0.113.1")
    yield "protocol 255", ip(255, b"x" * 20)
    yield "protocol 0, nothing in it", ip(0, b"")
    yield "GRE", ip(47, b"\0" * 20)
    yield "SCTP without a chunk", ip(132, struct.pack("!HHII", 4000, 8888, 0, 0))
    yield "SCTP, INIT", ip(132, struct.pack("!HHIIBBH", 4000, 8888, 0, 0, 1, 0, 20))
    yield "SCTP, a chunk longer than the packet", ip(132, struct.pack("!HHIIBBH", 4000, 8888, 0, 0, 10, 0, 65535))
    # Options.
    yield "options: no operation", ip(TCP, syn, options=b"\x01" * 8)
    yield "options: record route", ip(TCP, syn, options=b"\x07\x07\x04\0\0\0\0\0")
    yield "options: length 0", ip(TCP, syn, options=b"\x07\x00\x04\x00")
    yield "options: longer than the header", ip(TCP, syn, options=b"\x07\xff\x04\x00")
    yield "options: loose source route", ip(TCP, syn, options=b"\x83\x07\x04\x0a\0\0\x01\0")
    yield "options: 40 bytes", ip(TCP, syn, options=b"\x01" * 40)
    yield "options in place of the TCP header", ip(TCP, b"", options=b"\x01" * 40)
    # Fragments.
    yield "first fragment", ip(TCP, syn + b"x" * 4, fragment=0x2000)
    yield "first fragment of 8 bytes", ip(TCP, syn[:8], fragment=0x2000)
    yield "first fragment of a datagram", ip(UDP, udp(b"x" * 24), fragment=0x2000)
    yield "middle fragment", ip(TCP, b"x" * 16, fragment=0x2003)
    yield "last fragment", ip(TCP, b"x" * 16, fragment=5)
    yield "last fragment beyond 65535", ip(UDP, b"x" * 100, fragment=0x1FFF)
    yield "fragment with DF", ip(UDP, udp(b"x" * 24), fragment=0x6000)
    yield "reserved flag", ip(TCP, syn, fragment=0x8000)
    yield "empty fragment", ip(TCP, b"", fragment=0x2001)
    # TCP.
    for length in (0, 1, 3, 12, 13, 19):
        yield f"TCP cut at {length} bytes", ip(TCP, syn[:length])
    yield "TCP data offset 0", ip(TCP, tcp(SYN, offset=0))
    yield "TCP data offset 4", ip(TCP, tcp(SYN, offset=4))
    yield "TCP data offset beyond the packet", ip(TCP, tcp(SYN, offset=15))
    yield "TCP wrong checksum", ip(TCP, tcp(SYN, checksum=0x1234))
    yield "TCP checksum 0", ip(TCP, tcp(SYN, checksum=0))
    yield "TCP without a flag", ip(TCP, tcp(0))
    yield "TCP with all flags", ip(TCP, tcp(0xFF))
    yield "TCP SYN and FIN", ip(TCP, tcp(SYN | FIN))
    yield "TCP SYN and RST", ip(TCP, tcp(SYN | RST))
    yield "TCP ACK of nothing", ip(TCP, tcp(ACK, sport=4001))
    yield "TCP RST of nothing", ip(TCP, tcp(RST, sport=4002))
    yield "TCP from port 0", ip(TCP, tcp(SYN, sport=0))
    yield "TCP to port 0", ip(TCP, tcp(SYN, dport=0))
    yield "TCP options cut short", ip(TCP, tcp(SYN, options=b"\x02\x04\x05\xb4\x08\x0a\x00\x00"))
    yield "TCP option of length 0", ip(TCP, tcp(SYN, options=b"\x02\x00\x05\xb4"))
    yield "TCP to oneself", ip(TCP, syn, destination=side.source)
    # UDP.
    for length in (0, 1, 4, 7):
        yield f"UDP cut at {length} bytes", ip(UDP, udp()[:length])
    yield "UDP length 0", ip(UDP, udp(length=0))
    yield "UDP length 7", ip(UDP, udp(length=7))
    yield "UDP length over the packet's", ip(UDP, udp(length=1000))
    yield "UDP length under the packet's", ip(UDP, udp(length=9))
    yield "UDP wrong checksum", ip(UDP, udp(checksum=0x1234))
    yield "UDP without a checksum", ip(UDP, udp(checksum=0))
    yield "UDP without data", ip(UDP, udp(b""))
    yield "UDP from port 0", ip(UDP, udp(sport=0))
    yield "UDP to port 0", ip(UDP, udp(dport=0))
    # ICMP, and what errors quote.
    for length in (0, 3, 7):
        yield f"ICMP cut at {length} bytes", ip(ICMP, icmp(8, 0, 1, b"")[:length])
    yield "ICMP unknown type", ip(ICMP, icmp(255, 255, 0, b"x" * 20))
    yield "ICMP echo, wrong checksum", ip(ICMP, icmp(8, 0, 1, b"x" * 20, check=0x1234))
    for length in (0, 1, 8, 19, 20, 21, 24, 27, 28, 33):
        yield f"ICMP unreachable quoting {length} bytes", ip(ICMP, icmp(3, 3, 0, quoted()[:length]))
    yield "ICMP unreachable, wrong checksum", ip(ICMP, icmp(3, 3, 0, quoted(), check=0x1234))
    yield "ICMP unreachable quoting version 6", ip(ICMP, icmp(3, 3, 0, quoted(version=6)))
    yield "ICMP unreachable quoting a header of 4 words", ip(ICMP, icmp(3, 3, 0, quoted(ihl=4)))
    yield "ICMP unreachable quoting a header of 15 words", ip(ICMP, icmp(3, 3, 0, quoted(ihl=15)))
    yield "ICMP unreachable quoting a wrong checksum", ip(ICMP, icmp(3, 3, 0, quoted(checksum=1)))
    yield "ICMP unreachable quoting a later fragment", ip(ICMP, icmp(3, 3, 0, quoted(fragment=5)))
    yield "ICMP unreachable quoting an ICMP error", ip(
        ICMP, icmp(3, 3, 0, ip(ICMP, icmp(3, 3, 0, quoted())))
    )
    yield "ICMP fragmentation needed, MTU 0", ip(ICMP, icmp(3, 4, 0, quoted()))
    yield "ICMP fragmentation needed, MTU 1", ip(ICMP, icmp(3, 4, 1, quoted()))
    yield "ICMP time exceeded, options in the quotation", ip(
        ICMP, icmp(11, 0, 0, quoted(options=b"\x01" * 8))
    )
    yield "ICMP redirect", ip(ICMP, icmp(5, 1, 0, quoted()))
    yield "ICMP parameter problem", ip(ICMP, icmp(12, 0, 0, quoted()))


def main():
    if sys.argv[1:] == ["list"]:
        print("\n".join(frames(Side("client"), b"\2" * 6, b"\4" * 6)))
        return
    interface, gateway, side, rounds = sys.argv[1:]
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((interface, 0))
    own = out.getsockname()[4]
    kinds = frames(Side(side), bytes.fromhex(gateway.replace(":", "")), own)
    sent = 0
    for _ in range(int(rounds)):
        for frame in kinds.values():
            out.send(frame)
            sent += 1
            if sent % 64 == 0:
                time.sleep(0.002)
    print(sent)


if __name__ == "__main__":
    main()
