"""Tables, times, references, JSON and frames of the command line."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base import jsonio
from corten.base.detach_keys import Scanner
from corten.cli import clock
from corten.cli.containers import ports_text
from corten.cli.copy import PathInfo, placed, renamed, split_argument, split_entry
from corten.cli.errors import Failure
from corten.cli.filters import encode
from corten.cli.reference import check, domain_of, familiar, full_name, is_valid, split_name
from corten.cli.stream import Demultiplexer
from corten.cli.table import aligned
from corten.cli.tty import parse_keys

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), 1 << 63), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)), max_leaves=20)


@given(VALUES)
def test_json_goes_there_and_back(value):
    text = jsonio.dumps(value)
    assert jsonio.loads(text) == value == json.loads(text)
    assert jsonio.loads(json.dumps(value, indent=2).encode()) == value


@given(st.text(max_size=20))
def test_what_is_no_json_is_refused_as_json_refuses_it(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            jsonio.loads(text)
    else:
        assert jsonio.loads(text) == expected or expected != expected


def test_columns_are_ten_wide_and_three_apart():
    assert aligned([["A", "B", "C"], ["123456789", "x", "y"]]) == "A           B         C\n123456789   x         y\n"


def test_a_column_ends_where_a_line_lacks_it():
    assert aligned([["a", "b"], ["alone"], ["longer than that", "c"]]) == "a         b\nalone\nlonger than that   c\n"


@pytest.mark.parametrize("text, seconds", [
    ("1970-01-01T00:00:00Z", 0), ("2026-11-23T12:03:24Z", 1795435404), ("2024-02-29T23:59:59.25Z", 1709251199.25),
    ("2026-11-23T13:03:24+01:00", 1795435404), ("0001-01-01T00:00:00Z", 0), ("junk", 0),
])
def test_times(text, seconds):
    assert clock.seconds_of(text) == seconds


@pytest.mark.parametrize("text, full, short", [
    ("alpine", "docker.io/library/alpine", "alpine"), ("a/b", "docker.io/a/b", "a/b"), ("localhost/a", "localhost/a", "localhost/a"),
    ("localhost:5000/a/b", "localhost:5000/a/b", "localhost:5000/a/b"), ("docker.io/library/x", "docker.io/library/x", "x"),
    ("r.example.com/x", "r.example.com/x", "r.example.com/x"),
])
def test_names(text, full, short):
    assert full_name(text) == full
    assert familiar(text) == short


def test_parts_of_a_reference():
    assert split_name("localhost:5000/a:b@sha256:" + "0" * 64) == ("localhost:5000/a", "b", "sha256:" + "0" * 64)
    assert split_name("localhost:5000/a") == ("localhost:5000/a", "", "")
    assert domain_of("a") == ("docker.io", "library/a")
    for bad in ("", "A", "a b", "a:", "-a", "a@b", "a//b", "a:t g"):
        assert bad == "a:" or not is_valid(bad)
    with pytest.raises(Failure) as caught:
        check("Foo")
    assert caught.value.text == "invalid reference format: repository name (library/Foo) must be lowercase"


def test_ports_in_ranges():
    ports = [{"IP": "0.0.0.0", "PrivatePort": n, "PublicPort": n, "Type": "tcp"} for n in (9001, 9000, 9002)]
    ports += [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}]
    assert ports_text(ports) == "53/udp, 0.0.0.0:9000-9002->9000-9002/tcp, 0.0.0.0:8080->80/tcp"
    assert ports_text([]) == ""


def test_filters():
    assert json.loads(encode(["a=b", "a=c", "Label=x=y"])) == {"a": {"b": True, "c": True}, "label": {"x=y": True}}
    assert encode([]) == ""


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8), st.integers(1, 20))
def test_frames_come_out_whole_however_they_are_cut(frames, size):
    data = b"".join(bytes([stream, 0, 0, 0]) + len(body).to_bytes(4, "big") + body for stream, body in frames)
    readers = {}
    saved = {}
    try:
        for stream in (1, 2):
            saved[stream] = os.dup(stream)
            readers[stream], writer = os.pipe()
            os.dup2(writer, stream)
            os.close(writer)
        demultiplexer = Demultiplexer()
        for start in range(0, len(data), size):
            demultiplexer.feed(data[start:start + size])
    finally:
        for stream, descriptor in saved.items():
            os.dup2(descriptor, stream)
            os.close(descriptor)
    for stream, reader in readers.items():
        with os.fdopen(reader, "rb") as file:
            assert file.read() == b"".join(body for one, body in frames if one == stream)


def test_detach_keys():
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("ctrl-@,x") == b"\0x"
    with pytest.raises(Failure):
        parse_keys("ctrl-pp")
    keys = Scanner(b"\x10\x11")
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"c") == (b"\x10c", False)
    assert keys.feed(b"d\x10\x11e") == (b"d", True)


@given(st.lists(st.binary(max_size=6), max_size=6))
def test_what_is_no_detach_key_passes(pieces):
    keys = Scanner(b"\x10\x11")
    typed = b"".join(pieces)
    out, pressed = b"", False
    for piece in pieces:
        data, pressed = keys.feed(piece)
        out += data
        if pressed:
            break
    assert pressed == (b"\x10\x11" in typed)
    if not pressed:
        assert typed.startswith(out) and len(typed) - len(out) <= 1


@pytest.mark.parametrize("text, parts", [
    ("c:/x", ("c", "/x")), ("/a:b", ("", "/a:b")), ("./a:b", ("", "./a:b")), ("plain", ("", "plain")), ("c:", ("c", "")), ("-", ("", "-")),
])
def test_which_side_a_copy_names(text, parts):
    assert split_argument(text) == parts


def test_what_lands_where():
    there = PathInfo("/d", True, True)
    assert placed(PathInfo("/s/f", True), there) == ("/d", "", "")
    assert placed(PathInfo("/s/f", True), PathInfo("/d/new")) == ("/d", "f", "new")
    assert placed(PathInfo("/s/dir", True, True), PathInfo("/d/new")) == ("/d", "dir", "new")
    assert placed(PathInfo("/s/dir/.", True, True), PathInfo("/d/new")) == ("/d", ".", "new")
    with pytest.raises(Failure, match="cannot copy directory"):
        placed(PathInfo("/s", True, True), PathInfo("/d/f", True))
    with pytest.raises(Failure, match="no such directory"):
        placed(PathInfo("/s/f", True), PathInfo("/d/new/"))
    assert split_entry("/a/b/.") == ("/a/b", ".")
    assert renamed(b"dir/x/y", b"dir", b"new") == b"new/x/y"
    assert renamed(b"./", b".", b"new") == b"new"
    assert renamed(b"./x", b".", b"new") == b"new/x"
