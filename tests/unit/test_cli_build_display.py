"""How a build is shown: plain lines, JSON lines, the tree of a terminal, and what is said when it fails."""

import base64
import json
import os
import re

import pytest

from corten.build.buildkit.messages import new
from corten.cli.buildkit.display import Plain, RawJson, failure_excerpt, source_excerpts, warnings_text
from corten.cli.buildkit.steps import Step
from corten.cli.buildkit.tree import Tree


def stamp(seconds):
    return new("Timestamp", seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def vertex(digest, name, started=None, completed=None, **more):
    given = {key: stamp(value) for key, value in (("started", started), ("completed", completed)) if value}
    return new("StatusResponse", vertexes=[new("Vertex", digest=digest, name=name, **given, **more)])


def log(digest, time, data, stream=1):
    return new("StatusResponse", logs=[new("VertexLog", vertex=digest, timestamp=stamp(time), stream=stream, msg=data)])


BUILD = [
    vertex("i", "[internal] load build definition from Dockerfile", 100, 100.1),
    vertex("a", "[one 1/2] FROM busybox AS one", 100, 100.1, cached=True),
    vertex("b", "[one 2/2] RUN make", 100.2),
    log("b", 100.5, b"first\nsec"),
    vertex("c", "[stage-1 1/1] FROM busybox", 100.2),
    log("b", 100.7, b"ond\r\nlast without an end"),
    vertex("c", "[stage-1 1/1] FROM busybox", 100.2, 101, error="context canceled"),
    vertex("b", "[one 2/2] RUN make", 100.2, 102.2, error="exit code: 2"),
]


def told(display, updates=BUILD):
    for update in updates:
        display.tell(update)
    return display


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def read_all(pipe):
    os.close(pipe[1])
    with os.fdopen(os.dup(pipe[0]), "rb") as file:
        return file.read().decode()


def test_plain(pipe):
    told(Plain(pipe[1]))
    assert read_all(pipe) == """#1 [internal] load build definition from Dockerfile
#1 DONE 0.1s

#2 [one 1/2] FROM busybox AS one
#2 CACHED

#3 [one 2/2] RUN make
#3 0.300 first

#4 [stage-1 1/1] FROM busybox

#3 [one 2/2] RUN make
#3 0.500 second

#4 [stage-1 1/1] FROM busybox
#4 CANCELED

#3 [one 2/2] RUN make
#3 2.000 last without an end
#3 ERROR: exit code: 2
"""


def test_parts_of_a_step_are_told_once(pipe):
    part = {"ID": "sha256:1", "vertex": "a", "total": 10}
    updates = [vertex("a", "[1/1] FROM x", 1), *(new("StatusResponse", statuses=[new("VertexStatus", current=at, **part)]) for at in (1, 5)),
               new("StatusResponse", statuses=[new("VertexStatus", current=10, completed=stamp(2), **part)])]
    told(Plain(pipe[1]), updates)
    assert read_all(pipe).splitlines()[1:] == ["#1 sha256:1 1B", "#1 sha256:1 10B done"]


def test_json_lines(capfd):
    told(RawJson())
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert lines[1]["vertexes"][0] == {"digest": "a", "name": "[one 1/2] FROM busybox AS one", "cached": True,
                                       "started": "1970-01-01T00:01:40Z", "completed": "1970-01-01T00:01:40.099999999Z"}
    assert base64.b64decode(lines[3]["logs"][0]["data"]) == b"first\nsec"


def test_the_tree_has_its_stages_and_times(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    tree = told(Tree(), BUILD[:6])
    lines = tree.lines(103.0, 50, 99)
    assert [re.sub(r"(?<=\S) {2,}(?=[0-9C])", " | ", line) for line in lines[1:]] == [
        " ✔ load build definition from Dockerfile | 0.1s",
        "├ one",
        "│  ✔ 1/2 FROM busybox AS one | CACHED",
        f"│  {lines[4][3]} 2/2 RUN make | 2.8s",
        "│      first",
        "│      second",
        "└ stage-1",
        f"   {lines[8][3]} 1/1 FROM busybox | 2.8s",
    ]
    assert {len(line) for line in lines if line.endswith(("s", "CACHED")) and "✔" in line} == {49}
    told(tree, BUILD[6:])
    shown = "\n".join(tree.lines(103.0, 50, 99))
    assert "✘ 2/2 RUN make" in shown and "– 1/1 FROM busybox" in shown


def test_the_tree_fits_and_sends_nothing_of_a_step_to_the_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    steps = [vertex(f"d{number}", f"[s{number % 9} {number}/9] RUN \x1b]0;title\x07 {'x' * 300}\nmore", 1, 2 if number % 2 else None)
             for number in range(60)]
    tree = told(Tree(), [*steps, log("d0", 2, b"\x1b[2J\x9b31m\tout\n" * 50)])
    for rows, columns in ((24, 80), (4, 20), (10, 40)):
        lines = tree.lines(3.0, columns, rows)
        assert 1 <= len(lines) <= rows
        assert all(len(line) < columns and line.isprintable() for line in lines)
    assert "RUN" in tree.lines(3.0, 80, 24)[-1]  # what runs stays; what is done went first


def test_the_output_of_a_failed_step_and_the_lines_to_blame():
    display = told(Plain(os.open(os.devnull, os.O_WRONLY)))
    assert failure_excerpt(display.steps) == (
        "------\n > [one 2/2] RUN make:\n0.300 first\n0.500 second\n2.000 last without an end\n------\n")
    source = {"info": {"filename": "Dockerfile", "data": base64.b64encode(b"FROM x\nRUN make\n").decode()},
              "ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}
    assert "   2 | >>> RUN make\n" in source_excerpts([json.dumps(source).encode()])
    for broken in (b"", b"{", b"[]", b'{"info": {}}', json.dumps({**source, "ranges": []}).encode()):
        assert source_excerpts([broken]) == ""


def test_warnings_are_counted_with_their_lines():
    warning = new("VertexWarning", short=b"JSONArgsRecommended: x", ranges=[new("Range", start=new("Position", line=3))])
    display = told(Plain(os.open(os.devnull, os.O_WRONLY)), [new("StatusResponse", warnings=[warning, warning])])
    assert warnings_text(display.steps).startswith("\n 2 warnings found") and " - JSONArgsRecommended: x (line 3)\n" in warnings_text(display.steps)


def test_a_line_without_an_end_is_not_collected_for_ever():
    step = Step(1, "x")
    step.started = 1.0
    for _ in range(100):
        step.take(2.0, b"y" * 5000)
    assert len(step.partial) <= 1 << 17 and len(step.lines) <= 200
