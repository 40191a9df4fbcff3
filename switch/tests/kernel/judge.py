#!/usr/bin/env python3
"""The connection tracking of the running kernel, asked packet by packet.

Run in a private network namespace (`unshare -Urn judge.py`): it makes two veth pairs there, routes between them, and
has nftables count what conntrack says of each frame right after it looked it up. A frame that is to be committed is
routed on, so that the kernel confirms its connection; another one is dropped after it was counted. No address exists
in the namespace, so nothing answers, and nothing leaves it.

First it prints `ready RELEASE`, the kernel's; where that is not possible it says why and ends with status 77. Then
from standard input, a command a line:

    frame WAY COMMIT ZONE MARK HEX   an Ethernet frame; WAY there|back, COMMIT 0|1; MARK to set, 0 for none
    entries                          the connections, as /proc/net/nf_conntrack shows them, or `unknown` without it
    flush                            forget the connections

To standard output, a line each: `STATE mark=M bytes=N`, where STATE is of `none new est rel inv untracked rpl` joined
by `+`, N the size of the packet that was looked up (a datagram, where fragments were put together); for `entries`
the number of lines, then the lines; for `flush` nothing.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time

PATIENCE, RESEND = 30.0, 2.0
CANNOT = 77
SIOCETHTOOL = 0x8946
STATES = ("new", "established", "related", "invalid", "untracked")
SHORT = {"established": "est", "related": "rel", "invalid": "inv"}
ZONES, MARKS = range(1, 4), range(1, 8)
# Where a frame enters, and where the kernel takes it: addresses of the two hosts by the side they live on.
SIDES = {"there": ("v0", "p0", ("10.0.0.1", "fd00::1")), "back": ("v1", "p1", ("10.0.0.2", "fd00::2"))}
ROUTER = {"v0": "02:00:00:00:10:00", "v1": "02:00:00:00:11:00"}
# Source addresses say what is to be done with a frame: 02 5a, drop, zone, mark, 0; this one marks the end of a frame.
SENTINEL = bytes.fromhex("025affffffff")


def run(*words, text=None):
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


def write(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def interfaces():
    """Two pairs: v0 and v1 belong to the router, p0 and p1 are where the frames of the hosts come from."""
    for name in ("all", "default"):
        write(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "0")
        write(f"/proc/sys/net/ipv4/conf/{name}/send_redirects", "0")
    for inner, outer, _ in SIDES.values():
        run("ip", "link", "add", inner, "address", ROUTER[inner], "type", "veth", "peer", "name", outer)
        write(f"/proc/sys/net/ipv6/conf/{outer}/disable_ipv6", "1")
        write(f"/proc/sys/net/ipv6/conf/{inner}/accept_dad", "0")
        write(f"/proc/sys/net/ipv6/conf/{inner}/accept_ra", "0")
        write(f"/proc/sys/net/ipv6/conf/{inner}/router_solicitations", "0")
        write(f"/proc/sys/net/ipv4/conf/{inner}/rp_filter", "0")
        run("ip", "link", "set", inner, "addrgenmode", "none")
        run("ip", "link", "set", outer, "up")
        run("ip", "link", "set", inner, "up")
        no_checksum_offload(inner)
    write("/proc/sys/net/ipv4/ip_forward", "1")
    write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    for inner, _, (ipv4, ipv6) in SIDES.values():
        for address in (ipv4, ipv6):
            # Without an address of its own the router has no way to a neighbour that it is not told.
            run("ip", "neighbour", "add", address, "lladdr", "02:00:00:00:20:00", "dev", inner)
            run("ip", "route", "add", address, "dev", inner)


def no_checksum_offload(name):
    """A veth takes all checksums for verified, unless it is told to look."""
    set_rx_checksum = 0x15
    value = ctypes.create_string_buffer(struct.pack("II", set_rx_checksum, 0))
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCETHTOOL, request)


def ruleset():
    names = ("seen", "sentinel", "reply", *STATES, *(f"mark{mark}" for mark in MARKS))
    lines = ["table inet judge {", *(f"counter {name} {{ }}" for name in names)]
    lines += ["chain first {", "type filter hook prerouting priority -450; policy accept;"]
    lines += ["ether saddr 02:5a:ff:ff:ff:ff counter name sentinel drop", "}"]
    lines += ["chain zones {", "type filter hook prerouting priority -300; policy accept;"]
    lines += [f"@ll,72,8 {zone} ct zone set {zone}" for zone in ZONES]
    lines += ["}", "chain states {", "type filter hook prerouting priority -199; policy accept;"]
    lines += ["counter name seen", *(f"ct state {state} counter name {state}" for state in STATES)]
    lines += ["ct direction reply counter name reply"]
    lines += [f"ct mark {mark} counter name mark{mark}" for mark in MARKS]
    lines += [f"@ll,80,8 {mark} ct mark set {mark}" for mark in MARKS]
    lines += ["@ll,64,8 1 drop", "}", "}"]
    run("nft", "-f", "-", text="\n".join(lines) + "\n")


class Netlink:
    """What of nfnetlink is needed: to read counters, and to flush connections."""

    REQUEST, ACK, DUMP = 1, 4, 0x300
    GET_AND_RESET, DELETE_CONNECTIONS = 10 << 8 | 21, 1 << 8 | 2
    INET = 1

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self.socket.bind((0, 0))
        self.number = 0

    def ask(self, kind, flags, family, attributes=b""):
        self.number += 1
        body = struct.pack("=BBH", family, 0, 0) + attributes
        header = struct.pack("=IHHII", 16 + len(body), kind, self.REQUEST | flags, self.number, 0)
        self.socket.send(header + body)
        answers = []
        while True:
            data = self.socket.recv(1 << 16)
            while data:
                length, answer, _, _, _ = struct.unpack_from("=IHHII", data)
                if answer == 3:
                    return answers
                if answer == 2:
                    (error,) = struct.unpack_from("=i", data, 16)
                    if error:
                        sys.exit(f"netlink: {os.strerror(-error)}")
                    return answers
                answers.append(data[20:length])
                data = data[(length + 3) & ~3 :]

    def counters(self):
        """Packets and bytes by name since the last time."""
        table = attribute(1, b"judge\0")
        found = {}
        for answer in self.ask(self.GET_AND_RESET, self.DUMP, self.INET, table):
            parts = attributes(answer)
            counts = attributes(parts[4])
            number = lambda at: int.from_bytes(counts[at], "big")
            found[parts[2].rstrip(b"\0").decode()] = (number(2), number(1))
        return found

    def flush(self):
        self.ask(self.DELETE_CONNECTIONS, self.ACK, socket.AF_UNSPEC)


def attribute(kind, value):
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + bytes(-len(data) % 4)


def attributes(data):
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def connections():
    """As /proc shows them; none where this kernel has no such file."""
    try:
        with open("/proc/net/nf_conntrack", encoding="ascii") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return ["unknown"]


class Judge:
    def __init__(self):
        # One processor, one queue: a frame that follows another is handled after it.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        interfaces()
        ruleset()
        self.netlink = Netlink()
        self.ports = {}
        for way, (inner, outer, _) in SIDES.items():
            port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            port.bind((outer, 0))
            self.ports[way] = (port, bytes.fromhex(ROUTER[inner].replace(":", "")))
        self.netlink.counters()

    def frame(self, way, commit, zone, mark, text):
        port, router = self.ports[way]
        frame = bytes.fromhex(text)
        to_do = bytes([0x02, 0x5A, 1 - int(commit), int(zone), int(mark), 0])
        port.send(router + to_do + frame[12:])
        self.end(way)
        return self.verdict(way)

    def end(self, way):
        """Marks the end of a frame: an empty IPv4 packet."""
        port, router = self.ports[way]
        port.send(router + SENTINEL + bytes.fromhex("0800" "4500001400004000" "40113ada") + bytes(8))

    def verdict(self, way):
        counted, end = {}, time.monotonic() + PATIENCE
        again = time.monotonic() + RESEND
        while not counted.get("sentinel", (0, 0))[0]:
            for name, (packets, size) in self.netlink.counters().items():
                had = counted.get(name, (0, 0))
                counted[name] = (had[0] + packets, had[1] + size)
            # A busy machine loses a frame now and then.
            if time.monotonic() > again:
                self.end(way)
                again = time.monotonic() + RESEND
            if time.monotonic() > end:
                sys.exit("the kernel does not handle frames")
        names = [SHORT.get(state, state) for state in STATES if counted[state][0]]
        names += ["rpl"] if counted["reply"][0] else []
        marks = [mark for mark in MARKS if counted[f"mark{mark}"][0]]
        return f"{'+'.join(names) or 'none'} mark={marks[0] if marks else 0} bytes={counted['seen'][1]}"


def main():
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        judge = Judge()
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(CANNOT)
    print(f"ready {os.uname().release}", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "frame":
            answer = judge.frame(*words)
        elif command == "entries":
            entries = connections()
            answer = "\n".join([str(len(entries)), *entries])
        elif command == "flush":
            judge.netlink.flush()
            continue
        else:
            sys.exit(f"no such command: {command}")
        print(answer, flush=True)


if __name__ == "__main__":
    main()
