# SPDX-License-Identifier: MIT
"""Attackers for check_trust.sh: a relay on the path to rank 0, and another user's process on the same host."""

import os
import socket
import sys
import threading
import time

GREET, PROOF = 40, 80  # what a dialler says before its connection is sealed
CHALLENGE, ANSWER = 40, 48  # and an acceptor
HEAD = 24 + 20  # a notice's head in its frame


class Meddler:
    """Passes bytes of one direction on, and does what the mode says to those after the handshake."""

    def __init__(self, mode, handshake):
        self.mode, self.handshake, self.seen = mode, handshake, 0
        self.first = b""

    def pass_on(self, data):
        start, self.seen = self.seen, self.seen + len(data)
        if self.mode == "rewrite":  # one bit of what the notice carries
            at = self.handshake + HEAD + 30 - start
            if 0 <= at < len(data):
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        elif self.mode == "repeat":  # the first frame twice
            have = len(self.first)
            if have < HEAD and self.seen > self.handshake:
                after = max(0, self.handshake - start)
                self.first += data[after : after + HEAD - have]
                if len(self.first) == HEAD:
                    end = after + HEAD - have
                    data = data[:end] + self.first + data[end:]
        elif self.mode == "cut" and self.seen > self.handshake + HEAD + 30:
            return data[: max(0, self.handshake + HEAD + 30 - start)], True
        return data, False


def relay(listen, target, mode, side, capture):
    """Between port `listen` and port `target`; meddles with what the side "up" (to the target) or "down" says."""
    log = open(capture, "wb")

    def pump(source, sink, meddler):
        try:
            while data := source.recv(65536):
                log.write(data)
                log.flush()
                data, over = meddler.pass_on(data)
                sink.sendall(data)
                if over:
                    break
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    listener = socket.create_server(("127.0.0.1", int(listen)))
    print("ready", flush=True)
    while True:
        one, _ = listener.accept()
        try:
            other = socket.create_connection(("127.0.0.1", int(target)))
        except OSError:
            one.close()
            continue
        for a, b, name, handshake in ((one, other, "up", GREET + PROOF), (other, one, "down", CHALLENGE + ANSWER)):
            meddler = Meddler(mode if name == side else "forward", handshake)
            threading.Thread(target=pump, args=(a, b, meddler), daemon=True).start()


def squat(name):
    """Sits at an abstract name and holds whoever comes."""
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0" + name)
    s.listen(16)
    print("ready", flush=True)
    held = []
    while True:
        held.append(s.accept())


def names():
    with open("/proc/net/unix") as f:
        return {line.split()[-1][1:] for line in f if line.split()[-1].startswith("@tutti")}


def knock(name):
    """Waits for an abstract socket, talks to it, and reports whether it ever answers."""
    until = time.time() + 60
    while name not in names():
        if time.time() > until:
            sys.exit("there is no @" + name)
        time.sleep(0.05)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    try:
        s.connect("\0" + name)
        s.sendall(b"ttut" + bytes(36))
        answer = s.recv(100)
    except ConnectionError:
        answer = b""
    if answer:
        sys.exit("@%s answered another user" % name)
    print("nobody answered")


if __name__ == "__main__":
    {"relay": relay, "squat": squat, "knock": knock}[sys.argv[1]](*sys.argv[2:])
