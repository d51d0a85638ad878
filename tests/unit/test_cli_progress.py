"""Progress on a terminal: bars, sizes, rates and what is left, drawn in as many columns as there are."""

import os

import pytest

from corten.cli.errors import Failure
from corten.cli.progress import Pace, bar, sent, show


def drawn(steps, columns=120):
    """The texts of a bar at (second, current of 100 MB)."""
    paces = {}
    return [bar({"current": current, "total": 100_000_000}, columns, paces, "k", now) for now, current in steps]


def test_a_bar_tells_rate_and_time_left():
    first, second, last = drawn([(10.0, 0), (12.0, 50_000_000), (14.0, 100_000_000)])
    assert first == " [>" + " " * 50 + "]       0B/100MB"
    assert second == " [" + "=" * 25 + ">" + " " * 25 + "]     50MB/100MB  25MB/s 2s"
    assert last == " [" + "=" * 50 + ">]    100MB/100MB"


def test_narrow_terminals_leave_things_out():
    steps = [(1.0, 10_000_000), (2.0, 20_000_000)]
    assert drawn(steps, 80)[1] == "     20MB/100MB  10MB/s 8s" and drawn(steps, 50)[1] == "     20MB/100MB"


def test_a_resumed_download_is_not_fast_because_of_what_was_there():
    assert Pace(0.0, 90).text(10.0, 100, 200) == "  1B/s 100s" and Pace(0.0, 0).text(0.1, 50, 200) == ""


@pytest.mark.parametrize("detail, text", [
    (None, ""), ({}, ""), ({"current": 5}, "       5B"), ({"current": 3, "total": 9, "units": "layers"}, " 3/9 layers"),
    ({"current": 9, "total": 5}, "       9B"),
])
def test_odd_details(detail, text):
    assert bar(detail, 120, {}, "k", 0.0) == text


def told(messages):
    read_end, write_end = os.pipe()
    try:
        show(iter(messages), write_end)
    finally:
        os.close(write_end)
    with open(read_end) as stream:
        return stream.read()


def test_a_file_gets_plain_lines_without_bars():
    assert told([{"status": "Pulling from x", "id": "v1"}, {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}},
                 {"status": "Pull complete", "id": "a", "progressDetail": {}}, {"stream": "Loaded image: x\n"}]) == (
        "v1: Pulling from x\na: Pull complete\nLoaded image: x\n")
    with pytest.raises(Failure, match="broken"):
        told([{"error": "broken", "errorDetail": {"message": "broken"}}])


def test_what_is_sent_passes_unchanged():
    ours, theirs = os.openpty()
    try:
        assert list(sent(iter([b"a" * 600, b"b" * 400]), 1000, theirs, "x.tar")) == [b"a" * 600, b"b" * 400]
        seen = b""
        while b"x.tar: Sent" not in seen:
            seen += os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
