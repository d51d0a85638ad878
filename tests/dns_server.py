"""A name server as the world outside, for tests: written apart from ours, answers by the name it is asked for."""

import socket
import struct
import threading


def record(kind, ttl, data, name=b"\xc0\x0c"):
    return name + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


class DnsServer:
    """Listens on `address`:53, UDP and TCP, in the network namespace of the thread that makes it. `asked` are names."""

    def __init__(self, address):
        self.asked = []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, 53))
        self.tcp = socket.create_server((address, 53))
        self.threads = [threading.Thread(target=self._datagrams, daemon=True),
                        threading.Thread(target=self._streams, daemon=True)]
        for thread in self.threads:
            thread.start()

    def close(self):
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _datagrams(self):
        while True:
            try:
                message, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if not message:
                return
            reply = self.answer(message, False)
            if reply:
                self.udp.sendto(reply, peer)

    def _streams(self):
        while True:
            try:
                peer, _ = self.tcp.accept()
            except OSError:
                return
            with peer:
                head = peer.recv(2, socket.MSG_WAITALL)
                if len(head) == 2:
                    message = peer.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
                    reply = self.answer(message, True)
                    peer.sendall(len(reply).to_bytes(2, "big") + reply)

    def answer(self, message, stream):
        end = message.index(b"\0", 12) + 5
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode().lower())
            at += 1 + message[at]
        name = ".".join(labels)
        self.asked.append(("tcp" if stream else "udp", name))
        edns = message[10:12] != b"\0\0"
        first = labels[0] if labels else ""
        code, answers, authority = 0, [], []
        if first == "many":
            answers = [record(1, 60, bytes([10, 0, at // 250, at % 250 + 1])) for at in range(200)]
        elif first == "fail":
            code = 2
        elif first == "silent":
            return b""
        elif first in ("none", "nowhere"):
            code = 3
            authority = [record(6, 60, b"\0\0" + struct.pack(">5I", 1, 2, 3, 4, 60))]
        elif first == "forged":
            return struct.pack(">H", int.from_bytes(message[:2], "big") ^ 1) + message[2:]
        else:
            answers = [record(1, 60, socket.inet_aton("192.0.2.80"))]
        room = 65535 if stream else int.from_bytes(message[end + 3:end + 5], "big") if edns else 512
        opt = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0) if edns else b""
        flags = 0x8180 | code
        if end + sum(map(len, answers)) + len(opt) > room:
            answers, flags = [], flags | 0x200
        head = message[:2] + struct.pack(">5H", flags, 1, len(answers), len(authority), 1 if edns else 0)
        return head + message[12:end] + b"".join(answers) + b"".join(authority) + opt
