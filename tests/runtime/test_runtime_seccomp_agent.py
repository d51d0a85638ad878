"""linux.seccomp.listenerPath: an agent gets the filter's listener and answers for the kernel."""

import array
import ctypes
import fcntl
import json
import os
import socket
import struct
import threading

import pytest
from test_runtime_cli import oci  # noqa: F401 - a fixture

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101  # linux/seccomp.h
CHMOD = {"x86_64": (90, 268), "aarch64": (53, 53)}[os.uname().machine]
ANSWER = 77


class Agent:
    """Listens for one listener; answers every notification with an errno, once told to."""

    def __init__(self, folder):
        self.path = f"{folder}/agent.sock"
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(self.path)
        self.server.listen(4)
        self.server.settimeout(60)
        self.told = []
        self.numbers = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.server.accept()
        data, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
        connection.close()
        self.told.append(json.loads(data))
        listener = array.array("i", control[0][2][:4])[0]
        try:
            while True:
                buffer = ctypes.create_string_buffer(80)
                try:
                    fcntl.ioctl(listener, NOTIF_RECV, buffer)
                except OSError:
                    return
                number, = struct.unpack_from("i", buffer, 16)
                self.numbers.append(number)
                identity, = struct.unpack_from("Q", buffer, 0)
                fcntl.ioctl(listener, NOTIF_SEND, struct.pack("QqiI", identity, 0, -ANSWER, 0))
        finally:
            os.close(listener)

    def close(self):
        self.server.close()


def profile(agent, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent, "listenerMetadata": "words",
            "syscalls": [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_NOTIFY"}], **more}


@pytest.fixture
def agent(boxes):
    found = Agent(boxes.folder)
    yield found
    found.close()


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_an_agent_answers(boxes, agent, no_new_privs):
    def change(spec):
        spec["linux"]["seccomp"] = profile(agent.path)
        spec["process"]["noNewPrivileges"] = no_new_privs
        spec["annotations"] = {"a": "b"}

    result = boxes.run("chmod", "600", "/etc/passwd", change=change)
    assert result.failure is None and result.code == 1
    agent.thread.join(60)
    assert agent.numbers and set(agent.numbers) <= set(CHMOD)
    told = agent.told[0]
    assert told["fds"] == ["seccompFd"] and told["metadata"] == "words" and told["pid"] == told["state"]["pid"]
    assert told["state"]["status"] == "creating" and told["state"]["annotations"] == {"a": "b"}


def test_an_exec_has_a_listener_of_its_own(boxes, agent):
    spec = boxes.spec("sleep", "100")
    child, bundle = boxes.start(spec)
    bundle.spec["linux"]["seccomp"] = profile(agent.path)
    result = boxes.exec(child, bundle, "chmod", "600", "/etc/passwd")
    assert result.failure is None and result.code == 1
    assert agent.told[0]["state"]["pid"] == child.pid != agent.told[0]["pid"]


def test_without_an_agent_the_container_does_not_start(boxes):
    def change(spec):
        spec["linux"]["seccomp"] = profile(f"{boxes.folder}/nobody.sock")

    result = boxes.run("true", change=change)
    assert str(result.failure).startswith("hand over the seccomp listener: failed to connect with seccomp agent")
    assert result.code == -9


def test_a_detached_start_hands_it_over_too(agent, oci):  # noqa: F811
    path = oci.bundle("chmod", "600", "/etc/passwd", change=lambda spec: spec["linux"].update(
        seccomp=profile(agent.path)))
    assert oci("create", "-b", path, "noticed")[0] == 0
    assert agent.told == []
    assert oci("start", "noticed")[0] == 0
    agent.thread.join(60)
    assert agent.told[0]["state"]["id"] == "noticed" and agent.numbers
