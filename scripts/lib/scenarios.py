"""Runs scenario files through a running director: scenarios.py LAB CLIENT-GATEWAY-MAC SERVER-GATEWAY-MAC FILE...

The same files as director/engine/tests/scenarios, whose README has their format, but in real time: cases that wait
for long, change the network or need hosts that the lab has not got are skipped, and counted as such. What the
director's own stack answers is not looked at. Prints one line: passed and skipped cases; fails at the first other.
"""

import ctypes
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time

from frames import checksum

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
# A packet in another, of either family.
INSIDE = 4, 41
PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
FLAGS = [("S", 2), ("F", 1), ("R", 4), ("P", 8), ("A", 16), ("U", 32)]
CHUNKS = (
    "DATA INIT INIT-ACK SACK HEARTBEAT HEARTBEAT-ACK ABORT SHUTDOWN SHUTDOWN-ACK ERROR COOKIE-ECHO COOKIE-ACK "
    "ECNE CWR SHUTDOWN-COMPLETE"
).split()
NODES = {
    "client": ("192.168.18.10", "2001:db8:18::10"),
    "server1": ("192.168.2.71", "2001:db8:2::71"),
    "server2": ("192.168.2.72", "2001:db8:2::72"),
}
HOSTS = {"192.168.18.58", "192.168.2.90", "2001:db8:18::58", "2001:db8:2::90"}.union(*NODES.values())
# What can be sent and done here; everything else is for simulated time. Options of packets: whether a number follows.
OPTIONS = {"ttl": 1, "length": 1, "cut": 1, "fragmentable": 0, "wrong-checksum": 0, "no-checksum": 0}
# And those of a stream.
OPTIONS |= {"seq": 1, "ack": 1, "record-route": 1}
# Extension headers of IPv6, by their kinds.
EXTENSIONS = {"hop-by-hop": 0, "routing": 43, "atomic": 44, "authentication": 51, "destination-options": 60}
NUMBERS = 1000, 7
STEPS = {"front", "back", "ipvsadm", "set", "wait"}
PATIENCE = 2.0
LONGEST_WAIT = 3.0
# Seconds that a listing may be behind.
LAG = 2


def crc32c(data):
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def address(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def end(text):
    host, port = text.rsplit(":", 1)
    return address(host.strip("[]")), int(port)


def name(host):
    return socket.inet_ntop(socket.AF_INET if len(host) == 4 else socket.AF_INET6, host)


def name_end(host, port):
    return f"{name(host)}:{port}" if len(host) == 4 else f"[{name(host)}]:{port}"


def ip(protocol, source, destination, payload, ttl=64):
    """A packet of the addresses' family; the number of ICMP is IPv4's, and of one in another."""
    if len(source) == 4:
        return ipv4(protocol, source, destination, payload, ttl)
    return ipv6({ICMP: ICMPV6, INSIDE[0]: INSIDE[1]}.get(protocol, protocol), source, destination, payload, ttl)


def pseudo(source, destination, protocol, length):
    """What a transport's checksum covers besides it."""
    kind = "!xBH" if len(source) == 4 else "!I3xB"
    fields = (protocol, length) if len(source) == 4 else (length, protocol)
    return source + destination + struct.pack(kind, *fields)


def icmp(source, destination, body, **given):
    """An ICMP message whose checksum is put in."""
    sum_ = checksum(body if len(source) == 4 else pseudo(source, destination, ICMPV6, len(body)) + body)
    return ip(ICMP, source, destination, body[:2] + struct.pack("!H", sum_) + body[4:], **given)


def ipv6(protocol, source, destination, payload, ttl=64, extensions=()):
    for kind, data in reversed(extensions):
        payload = bytes([protocol]) + data + payload
        protocol = kind
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + source + destination + payload


def ipv4(protocol, source, destination, payload, ttl=64, fragment=0x4000, options=b""):
    size = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 0, fragment, ttl, protocol, 0)
    head += source + destination + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def packet(words):
    """The IP packet that a line describes."""
    kind, source, _, destination, *options = words
    if kind == "ip":
        kind, protocol, source, _, destination = words
        return ip(int(protocol), address(source), address(destination), bytes(24))
    if kind == "ipip":
        _, source, _, destination, _, *inside = words
        return ip(INSIDE[0], address(source), address(destination), packet(inside), ttl=63)
    if kind == "ping":
        echo = struct.pack("!BBHHH", 128 if ":" in source else 8, 0, 0, 1, 1)
        return icmp(address(source), address(destination), echo)
    if kind == "icmp":
        _, kind, source, _, destination, *rest = words
        mtu = int(rest[1]) if rest[0] == "mtu" else 0
        code = [int(part) for part in kind.split("/")]
        body = struct.pack("!BBHI", *code, 0, mtu) + quoted(rest[rest.index("about") + 1 :])
        return icmp(address(source), address(destination), body)
    what = "" if kind == "udp" else options.pop(0)
    given, extensions = {}, []
    while options:
        option = options.pop(0)
        if option in EXTENSIONS:
            rest = {"routing": bytes([0, 0, int(options.pop(0)), 0, 0, 0, 0]) if option == "routing" else b""}
            rest["atomic"] = bytes([0, 0, 0, 0, 0, 0, 7])
            rest["authentication"] = bytes([2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0, 0])
            extensions.append((EXTENSIONS[option], rest.get(option, bytes([0, 1, 4, 0, 0, 0, 0]))))
            continue
        if option == "data":
            given[option] = " ".join(options).replace("\\r", "\r").replace("\\n", "\n").encode()
            break
        if option == "sack":
            edges = [int(edge) for edge in options.pop(0).split(",")]
            given[option] = struct.pack(f"!BBBB{len(edges)}I", 1, 1, 5, 2 + 4 * len(edges), *edges)
            continue
        if option not in OPTIONS:
            raise Unknown(option)
        given[option] = int(options.pop(0)) if OPTIONS[option] else True
    (saddr, sport), (daddr, dport) = end(source), end(destination)
    header = {"tcp": 20, "udp": 8, "sctp": 12}[kind]
    below = 20 if len(saddr) == 4 else 40 + 8 * len(extensions)
    data = bytes(at % 256 for at in range(given["length"] - below - header)) if "length" in given else b""
    data = given.get("data", data)
    more = given.get("sack", b"")
    length = header + len(more) + len(data)
    if kind == "tcp":
        flags = sum(bit for name, bit in FLAGS if name in what)
        numbers = [given.get(name, number) for name, number in zip(("seq", "ack"), NUMBERS)]
        offset = (header + len(more)) // 4 << 4
        body = struct.pack("!HHIIBBHHH", sport, dport, *numbers, offset, flags, 512, 0, 0) + more + data
        at = 16
    elif kind == "udp":
        body = struct.pack("!HHHH", sport, dport, length, 0) + data
        at = 6
    else:
        body = struct.pack("!HHII", sport, dport, 0x01020304, 0)
        body += b"".join(struct.pack("!BBHI", CHUNKS.index(name), 0, 7, 0x07070700) for name in what.split("+"))
        body = body[:8] + struct.pack("<I", crc32c(body)) + body[12:]
        at = None
    if at is not None and "no-checksum" not in given:
        sum_ = checksum(pseudo(saddr, daddr, PROTOCOLS[kind], length) + body)
        sum_ ^= 0x5500 if "wrong-checksum" in given else 0
        body = body[:at] + struct.pack("!H", sum_) + body[at + 2 :]
    body = body[: given.get("cut", len(body) + 8 * len(extensions)) - 8 * len(extensions)]
    if len(saddr) == 16:
        return ipv6(PROTOCOLS[kind], saddr, daddr, body, given.get("ttl", 64), extensions)
    fragment = 0 if "fragmentable" in given else 0x4000
    room = given.get("record-route", 0)
    way = struct.pack(f"!BBB{4 * room + 1}x", 7, 3 + 4 * room, 4) if room else b""
    return ipv4(PROTOCOLS[kind], saddr, daddr, body, given.get("ttl", 64), fragment, way)


def quoted(words):
    """What an ICMP error quotes: a packet, its end cut off after it was made."""
    if "cut" not in words:
        return packet(words)
    at = words.index("cut")
    whole = packet(words[:at] + words[at + 2 :])
    return whole[: (20 if whole[0] >> 4 == 4 else 40) + int(words[at + 1])]


def ends(packet):
    """Source and destination."""
    return (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])


def upper(packet):
    """The protocol above the headers of an IP packet, where that begins, and the extension headers in words."""
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 15) * 4, ""
    protocol, at, said = packet[6], 40, ""
    names = {kind: option for option, kind in EXTENSIONS.items()}
    while protocol in names:
        said += f" {names[protocol]}" + (f" {packet[at + 3]}" if protocol == EXTENSIONS["routing"] else "")
        length = (packet[at + 1] + 1) * 8
        if protocol == EXTENSIONS["atomic"]:
            length = 8
        if protocol == EXTENSIONS["authentication"]:
            length = (packet[at + 1] + 2) * 4
        protocol, at = packet[at], at + length
    return protocol, at, said


def transport_is_right(packet, protocol, body):
    if protocol == SCTP:
        return body[8:12] == struct.pack("<I", crc32c(body[:8] + bytes(4) + body[12:]))
    return checksum(pseudo(*ends(packet), protocol, len(body)) + body) == 0


def describe(packet):
    """A packet in the words of the scenarios; an IPv4 or ICMP checksum that is wrong is said."""
    is_v4 = packet[0] >> 4 == 4
    protocol, size, extensions = upper(packet)
    body = packet[size : struct.unpack("!H", packet[2:4])[0] if is_v4 else 40 + struct.unpack("!H", packet[4:6])[0]]
    saddr, daddr = ends(packet)
    source, destination = name(saddr), name(daddr)
    ttl = packet[8 if is_v4 else 7]
    note = "" if ttl == 63 else f" ttl {ttl}"
    if is_v4 and size > 23 and packet[20] == 7:
        recorded = [packet[at : at + 4] for at in range(23, 20 + packet[22] - 1, 4)]
        note += " record-route " + ",".join(map(name, recorded))
    note += extensions
    if is_v4 and checksum(packet[:size]):
        note += " wrong IPv4 checksum"
    if protocol == (ICMP if is_v4 else ICMPV6):
        kind, code, _, mtu = struct.unpack("!BBHI", body[:8])
        inner = body[8:]
        _, start, _ = upper(inner)
        ports = struct.unpack("!HH", inner[start : start + 4])
        quoted_ends = [name_end(*one) for one in zip(ends(inner), ports)]
        mtu = f" mtu {mtu}" if (kind, code) == ((3, 4) if is_v4 else (2, 0)) else ""
        is_right = checksum(body if is_v4 else pseudo(saddr, daddr, ICMPV6, len(body)) + body) == 0
        note += "" if is_right else " wrong ICMP checksum"
        about = f"{' > '.join(quoted_ends)} ttl {inner[8 if is_v4 else 7]}"
        about += "" if quoted_is_right(inner) else " wrong checksum"
        return f"{source} > {destination}: icmp {kind}/{code}{mtu} about {about}{note}"
    if protocol in INSIDE:
        df = " DF" if is_v4 and packet[6] & 0x40 else ""
        return f"{source} > {destination} ipip{df}{note}: {describe(body)}"
    if protocol not in PROTOCOLS.values():
        return f"{source} > {destination} protocol {protocol}{note}"
    sport, dport = struct.unpack("!HH", body[:4])
    if protocol == TCP:
        what = "".join(name for name, bit in FLAGS if body[13] & bit) or "-"
    elif protocol == UDP:
        what = "UDP"
    else:
        names, at = [], 12
        while at + 4 <= len(body):
            kind, _, length = struct.unpack("!BBH", body[at : at + 4])
            names.append(CHUNKS[kind])
            at += max(length + 3 & ~3, 4)
        what = "+".join(names) or "-"
    if protocol == UDP and body[6:8] == b"\0\0":
        note += " without checksum"
    elif not transport_is_right(packet, protocol, body):
        note += " wrong checksum"
    note += stream(body) if protocol == TCP else ""
    return f"{name_end(saddr, sport)} > {name_end(daddr, dport)} {what}{note}"


def quoted_is_right(packet):
    """Whether nothing is wrong with the checksum of what an ICMP error quotes, as far as that can be told."""
    is_v4 = packet[0] >> 4 == 4
    protocol, at, _ = upper(packet)
    total = struct.unpack("!H", packet[2:4])[0] if is_v4 else 40 + struct.unpack("!H", packet[4:6])[0]
    body = packet[at:total]
    is_part = is_v4 and struct.unpack("!H", packet[6:8])[0] & 0x3FFF != 0
    is_whole = len(packet) >= total and not is_part and len(body) >= {TCP: 20, UDP: 8}.get(protocol, 1 << 16)
    if not is_whole or protocol == UDP and body[6:8] == b"\0\0":
        return True
    return transport_is_right(packet, protocol, body)


def stream(body):
    """What a TCP segment says of its stream, as far as it does not go without saying."""
    numbers = struct.unpack("!II", body[4:12])
    text = "" if numbers == NUMBERS else " seq {} ack {}".format(*numbers)
    header = body[12] >> 4 << 2
    at = 20
    while at + 1 < header and body[at]:
        if body[at] == 5:
            edges = struct.unpack(f"!{body[at + 1] // 4}I", body[at + 2 : at + body[at + 1]])
            text += " sack " + ",".join(map(str, edges))
        at += 1 if body[at] == 1 else max(body[at + 1], 2)
    data = body[header:]
    if data and all(32 <= byte < 127 or byte in b"\r\n" for byte in data):
        text += " data " + data.decode().replace("\r", "\\r").replace("\n", "\\n")
    return text


class Unknown(Exception):
    """An option of a packet that cannot be sent here."""


class Network:
    """Sockets in each node of the lab, on its eth0: one for each family."""

    def __init__(self, lab, macs):
        self.macs = macs
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.sockets = {}
        for node, addresses in NODES.items():
            there = os.open(f"/run/netns/{lab}-{node}", os.O_RDONLY)
            if libc.setns(there, 0):
                raise OSError(ctypes.get_errno(), f"setns {node}")
            for kind in (0x0800, 0x86DD):
                out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
                out.bind(("eth0", kind))
                self.sockets[out] = "front" if node == "client" else "back", addresses
            libc.setns(home, 0)
        self.nodes = list(self.sockets)

    def seen(self, wait):
        """The first packet that comes in within so many seconds, on which side, and the addresses of the node."""
        until = time.monotonic() + wait
        while True:
            ready, _, _ = select.select(self.nodes, [], [], max(until - time.monotonic(), 0))
            if not ready:
                return None
            data, where = ready[0].recvfrom(65535)
            if where[2] in (socket.PACKET_OUTGOING, socket.PACKET_OTHERHOST) or is_neighbours(data[14:]):
                continue
            return *self.sockets[ready[0]], data[14:]

    def send(self, port, words):
        """Sends a packet from in front or from behind."""
        while self.seen(0):
            pass
        # Of the client, or of the first server.
        out = self.nodes[0 if port == "front" else 2]
        sent = packet(words)
        kind = b"\x08\x00" if sent[0] >> 4 == 4 else b"\x86\xdd"
        out.send(self.macs[port] + out.getsockname()[4] + kind + sent)


def is_neighbours(packet):
    """Whether it is the discovery of neighbours or of listeners, which goes on all the time."""
    if packet[0] >> 4 == 4:
        return False
    protocol, at, _ = upper(packet)
    return protocol == ICMPV6 and packet[at] in (130, 131, 132, 133, 134, 135, 136, 143)


def lab(*words):
    done = subprocess.run([os.environ["SCRIPTS"] + "/lab", *words], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr}")
    return done.stdout.splitlines()


class Failed(Exception):
    pass


def cases(path):
    """The cases of a file: lists of steps, each its line, its words and the lines below it."""
    found = [[]]
    with open(path) as file:
        for number, line in enumerate(file, 1):
            text = line.split("#")[0].rstrip()
            if not text:
                continue
            if text[0].isspace():
                found[-1][-1][2].append(" ".join(text.split()))
            elif text.startswith("case"):
                found.append([])
            else:
                found[-1].append((number, text.split(), []))
    return [case for case in found if case]


def is_for_the_lab(case):
    text = " ".join(" ".join([*words, *below]) for _, words, below in case)
    waits = sum(float(words[1]) for _, words, _ in case if words[0] == "wait")
    # What is sent in parts is for simulated time too.
    martians = "martian" in text or "hold" in text or " part " in text
    hosts = set(re.findall(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]+(?:::?[0-9a-f]+){3,}", text))
    # Templates outlive a case.
    is_persistent = any(words[0] == "ipvsadm" and "-p" in words for _, words, _ in case)
    if is_persistent or martians or waits > LONGEST_WAIT or not hosts <= HOSTS or not {words[0] for _, words, _ in case} <= STEPS:
        return False
    try:
        for _, words, _ in case:
            if words[0] in ("front", "back"):
                packet(words[1:])
    except Unknown:
        return False
    return True


def seconds(line):
    """A listed connection without its time, and that."""
    minutes, rest = re.search(r"(\d+):(\d\d) ", line).groups()
    return re.sub(r"\d+:\d\d ", "", line, count=1), int(minutes) * 60 + int(rest)


def check_connections(below):
    rows = sorted(seconds(" ".join(row.split())) for row in lab("ipvsadm", "-Lnc")[2:])
    expected = sorted(seconds(row) for row in below)
    same = [row for row, _ in rows] == [row for row, _ in expected]
    if not same or any(not 0 <= want - got <= LAG for (_, got), (_, want) in zip(rows, expected)):
        raise Failed(f"connections are {rows}")


def check_services(below):
    rows = [" ".join(row.split()) for row in lab("ipvsadm", "-Ln")[3:]]
    if sorted(rows) != sorted(below):
        raise Failed(f"services are {rows}")


def is_error(line):
    """Whether the director itself says so: then it is subject to the rate limit."""
    return re.search(r"icmp (1/|3/[^4]|11/).* ttl \d+ ttl 64$", line)


def frame(network, words, below):
    leaves = [line[3:] for line in below if not re.match("-> (drop|kernel)", line)]
    if any(is_error(line) for line in below):
        time.sleep(1.1)
    network.send(words[0], words[1:])
    if "-> kernel" in below:
        # What the stack does with it is its own: answer it, or forward it as it is.
        while seen := network.seen(0.05):
            port, _, got = seen
            if port != words[0] and ends(got) != ends(packet(words[1:])):
                raise Failed(f"translated: {port} {describe(got)}")
        return
    found = []
    while seen := network.seen(PATIENCE if len(found) < len(leaves) else 0.03):
        port, node, got = seen
        via = "" if name(ends(got)[1]) in node else f" via {node[got[0] >> 4 == 6]}"
        found.append(f"{port} {describe(got)}{via}")
    if found != leaves:
        raise Failed(f"what leaves is {found}")


def run(network, case):
    used = set()
    lab("ctl", "set", "expire_nodest_conn", "1")
    lab("ipvsadm", "-C")
    # It takes a server that is deleted to have the connections end of those that are already.
    lab("ipvsadm", "-A", "-f", "1")
    lab("ipvsadm", "-a", "-f", "1", "-r", "192.168.2.71")
    lab("ipvsadm", "-C")
    for _ in range(50):
        if len(lab("ipvsadm", "-Lnc")) <= 2:
            break
        time.sleep(0.1)
    lab("ctl", "set", "expire_nodest_conn", "0")
    if any(words[:2] == ["set", "am_droprate"] for _, words, _ in case):
        # It counts on from case to case.
        lab("stop", "director")
        lab("start", "director")
    try:
        for number, words, below in case:
            try:
                if words[0] in ("front", "back"):
                    frame(network, words, below)
                elif words == ["ipvsadm", "-Lnc"]:
                    check_connections(below)
                elif words == ["ipvsadm", "-Ln"]:
                    check_services(below)
                elif words[0] == "ipvsadm":
                    lab(*words)
                elif words[0] == "set":
                    used.add(words[1])
                    lab("ctl", *words)
                elif float(words[1]) > LAG:
                    # Less would not be seen.
                    time.sleep(float(words[1]))
            except Failed as failed:
                raise Failed(f"{number}: {' '.join(words)}: {failed}; is to be {below}") from None
    finally:
        lab("ipvsadm", "--set", "900", "120", "300")
        for name in used:
            lab("ctl", "set", name, {"conn_reuse_mode": "1", "am_droprate": "10", "pmtu_disc": "1"}.get(name, "0"))


def main(name, front, back, *paths):
    macs = {port: bytes.fromhex(mac.replace(":", "")) for port, mac in (("front", front), ("back", back))}
    network = Network(name, macs)
    passed = skipped = 0
    for path in sorted(paths):
        for case in cases(path):
            if not is_for_the_lab(case):
                skipped += 1
                continue
            try:
                run(network, case)
            except Failed as failed:
                sys.exit(f"{os.path.basename(path)}:{failed}")
            passed += 1
    print(f"{passed} passed, {skipped} skipped")


main(*sys.argv[1:])
