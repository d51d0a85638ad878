"""D-Bus messages as bytes, and a conversation with a peer that is played here."""

import socket
import struct
import threading

import pytest

from corten.linux import dbus

SERVICE = ("a.b", "/a", "a.b.C")


def message(kind, fields, signature="", *values, serial=1):
    body = bytearray()
    for one, value in zip(dbus.split(signature), values, strict=True):
        dbus.append(body, one, value)
    out = bytearray(struct.pack("<cBBBII", b"l", kind, 0, 1, len(body), serial))
    dbus.append(out, "a(yv)", [*fields, *([(8, ("g", signature))] if signature else [])])
    return bytes(out + bytes(-len(out) % 8) + body)


def test_signatures_fall_into_complete_types():
    assert dbus.split("ssa(sv)a(sa(sv))ay") == ["s", "s", "a(sv)", "a(sa(sv))", "ay"]
    for wrong in ("a", "(s", "z", "s)", ")"):
        with pytest.raises(ValueError):
            dbus.split(wrong)


def test_values_are_aligned_and_sized():
    out = bytearray()
    dbus.append(out, "y", 1)
    dbus.append(out, "a(sv)", [("A", ("t", 7)), ("B", ("ay", b"xy"))])
    assert bytes(out) == (
        b"\1\0\0\0" + struct.pack("<I", 42) + b"\1\0\0\0A\0" + b"\1t\0" + b"\0" * 7 + struct.pack("<Q", 7)
        + b"\1\0\0\0B\0" + b"\2ay\0" + b"\0\0" + struct.pack("<I", 2) + b"xy")


def test_a_list_without_items_is_padded_all_the_same():
    out = bytearray()
    dbus.append(out, "a(sv)", [])
    assert bytes(out) == bytes(8)


@pytest.mark.parametrize(("kind", "value"), [("u", -1), ("s", 5), ("y", 300), ("as", 5), ("(ss)", ("one",))])
def test_a_value_of_another_type_is_refused(kind, value):
    with pytest.raises((struct.error, TypeError, ValueError, AttributeError)):
        dbus.append(bytearray(), kind, value)


def test_a_message_is_read_as_it_was_written():
    data = message(4, [(3, ("s", "JobRemoved")), (5, ("u", 9))], "uoss", 1, "/job/1", "x.scope", "done")
    assert dbus.rest_of(data[:16]) == len(data) - 16
    found = dbus.parse(data)
    assert (found.type, found.fields[3], found.fields[5]) == (4, "JobRemoved", 9)
    assert found.values() == [1, "/job/1", "x.scope", "done"]


def test_what_does_not_fit_is_malformed():
    good = message(4, [(3, ("s", "X"))], "s", "text")
    for wrong in (b"B" + good[1:16], good[:3] + b"\2" + good[4:16], good[:4] + b"\xff\xff\xff\x7f" + good[8:16]):
        with pytest.raises(dbus.Malformed):
            dbus.rest_of(wrong)
    with pytest.raises(dbus.Malformed):
        dbus.parse(good[:12] + struct.pack("<I", 500) + good[16:])
    with pytest.raises(dbus.Malformed):
        dbus.parse(good[:-9] + struct.pack("<I", 99) + good[-5:]).values()
    with pytest.raises(dbus.Malformed):
        dbus.parse(message(4, [], "as", ["no", "lists"])).values()


@pytest.fixture
def peer(tmp_path):
    """A function: play a peer that lets us in and answers what it reads with these messages; gives its path."""
    threads = []

    def play(*answers, greeting=b"OK 0123\r\n"):
        path = str(tmp_path / "socket")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(1)

        def serve():
            with listening, listening.accept()[0] as other:
                if not other.recv(1000).endswith(b"BEGIN\r\n"):
                    return  # systemd may read what comes later together with a call, and leave that lying
                other.sendall(greeting)
                other.recv(10000)
                for answer in answers:
                    other.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return path

    yield play
    for thread in threads:
        thread.join()


def test_a_call_and_a_signal_that_came_before_its_answer(peer):
    job = message(4, [(3, ("s", "Done"))], "so", "early", "/1")
    path = peer(message(4, [(3, ("s", "Other"))], "as", ["x"]), job, message(2, [(5, ("u", 1))], "o", "/1"))
    connection = dbus.Connection(path, signal="Done")
    try:
        assert connection.call(SERVICE, "Do", "su", "x", 5) == ["/1"]
        assert connection.next_signal() == ["early", "/1"]
        with pytest.raises(ConnectionResetError):
            connection.next_signal()
    finally:
        connection.close()


def test_an_error_has_a_name_and_a_text(peer):
    connection = dbus.Connection(peer(message(3, [(5, ("u", 1)), (4, ("s", "a.b.No"))], "s", "not so")), signal="")
    try:
        with pytest.raises(dbus.CallFailed, match="not so") as failure:
            connection.call(SERVICE, "Do", "")
        assert failure.value.name == "a.b.No"
    finally:
        connection.close()


def test_not_let_in(peer):
    with pytest.raises(dbus.Malformed, match="not let in: REJECTED"):
        dbus.Connection(peer(greeting=b"REJECTED EXTERNAL\r\n"), signal="")
