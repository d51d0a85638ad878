"""The image API's answers, field by field as dockerd 28.5 gives them: the table beside is dockerd's own.

`DOCKERD_SOCKET=… python tests/api/test_image_answers.py` writes the table anew; with the variable set the test asks that
dockerd the same and compares as well. What no two engines share (ids of what is made now, times, folders) is left out.
"""

import json
import os
import sys
from urllib.parse import quote

import pytest

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from daemon_process import call
from images import docker_archive, entry, folder, layer, symlink

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "image_answers.json")
DOCKERD = os.environ.get("DOCKERD_SOCKET", "").removeprefix("unix://")
TAR = {"Content-Type": "application/x-tar"}
BASE = layer([folder("d"), entry("d/x", b"123")])
CONFIG = {
    "Env": ["A=b"], "Cmd": ["sh"], "Labels": {"l": "m", "zz": ""}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
    "User": "5", "WorkingDir": "/w", "StopSignal": "SIGINT", "Entrypoint": ["/e"], "OnBuild": ["RUN x"],
    "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1000000000}, "Shell": ["/bin/bash", "-c"], "ArgsEscaped": True,
    "Domainname": "x", "Hostname": "h", "AttachStdin": True, "Tty": True,
}


def filters(**values):
    return quote(json.dumps({name: value if isinstance(value, list) else [value] for name, value in values.items()}))


def archives(path):
    """(bytes, id) of three images: with three names, on the same layer with one, and without any."""
    found = []
    for layers, names, config in (
        ([BASE], ["sd/a:1", "sd/a:2", "sdb:1"], CONFIG),
        ([BASE, layer([entry("y", b"1" * 5000), symlink("l", "y"), entry("d/.wh.x")])], ["sd/b:1"], {"Labels": {"l": "n"}}),
        ([layer([entry("nl", b"1")])], [], {}),
    ):
        image_id = docker_archive(path, layers, names, config)
        with open(path, "rb") as stream:
            found.append((stream.read(), image_id))
    return found


def requests(path):
    """(method, URL, body) in order."""
    loaded = archives(path)
    (_, a), (_, b), (_, nameless) = loaded
    for data, _ in loaded:
        yield "POST", "/images/load?quiet=1", data
    for ref in ("sd/a:1", "sdb:1", a, a[7:19], "sd/b:1", b[7:], nameless, "nope", "sd/a", "Nope", "a:b:c", "sha256:" + "0" * 64):
        yield "GET", f"/images/{quote(ref)}/json", None
        yield "GET", f"/images/{quote(ref)}/history", None
    for query in (
        "", "?all=1", "?shared-size=1", "?manifests=1", *("?filters=" + text for text in (
            filters(dangling="true"), filters(dangling="false"), filters(dangling="x"), filters(reference="sd/*"),
            filters(reference="sd/*:1"), filters(reference="sd*"), filters(reference="*/a"), filters(reference=["sdb", "sd/b:1"]),
            filters(reference="docker.io/sd/a"), filters(before="sd/b:1"), filters(since="sd/a:1"), filters(before="nope"),
            filters(label="l"), filters(label="l=m"), filters(label=["l=m", "zz"]), filters(label="zz="),
            filters(until="2020-01-01"), filters(until="24h"), filters(nope="1"), filters(id=a[:15]))),
    ):
        yield "GET", f"/images/json{query}", None
    for query in ("repo=sd/c&tag=3", "repo=sd/c", "repo=SD/c", "repo=sd/c&tag=a:b", f"repo=sd/c@{a}", "repo=sd/c:5", "repo=" + "a" * 64):
        yield "POST", f"/images/sd%2Fa:1/tag?{query}", None
    yield "POST", "/images/nope/tag?repo=x", None
    for ref in (a, a[7:19], "sd%2Fc:3", "sd%2Fc", "nope", "NOPE", "%20"):
        yield "DELETE", f"/images/{ref}", None
    yield "GET", "/images/nope/get", None
    for query in ("changes=FROM%20x", "changes=RUN%20x", "changes=NOPE%20x", "repo=SD", "platform=x/y/z/w", "platform=windows"):
        yield "POST", f"/images/create?fromSrc=-&{query}", BASE
    yield "POST", "/images/create?fromSrc=-&repo=sd/i&tag=1&message=hi&changes=CMD%20a&changes=ENV%20x%3Dy", BASE
    yield "GET", "/images/sd%2Fi:1/json", None
    yield "GET", "/images/sd%2Fi:1/history", None
    yield "POST", "/images/prune?filters=" + filters(nope="1"), None
    yield "POST", "/images/prune?filters=" + filters(dangling="x"), None
    yield "POST", "/images/prune?filters=" + filters(dangling="false", label="l=zzz"), None
    yield "DELETE", f"/images/{nameless}", None
    yield "DELETE", f"/images/{a}?force=1", None
    yield "DELETE", "/images/sd%2Fb:1?noprune=1", None
    yield "DELETE", "/images/sd%2Fi:1", None


def plain(url, value):
    """An answer without what differs from engine to engine and from moment to moment."""
    made_now = "sd%2Fi" in url or "fromSrc" in url
    if isinstance(value, dict):
        dropped = ("GraphDriver", "DockerVersion", *(("Id", "Created", "status") if made_now else ()))
        value = {name: inner for name, inner in value.items() if name not in dropped}
        if "Metadata" in value:
            value["Metadata"].pop("LastTagTime")
    elif url.startswith("/images/json"):
        value = [row for row in value if (row["RepoTags"] or ["sd" if row["Size"] == 1 else ""])[0].startswith("sd")]
        value.sort(key=lambda row: row["Id"])
    elif isinstance(value, list) and made_now:
        value = [{name: inner for name, inner in row.items() if name not in ("Id", "Created", "Deleted")} for row in value]
    return value


def decoded(body):
    """JSON, or the list of a stream's objects; None for nothing."""
    found = [json.loads(line) for line in body.splitlines() if line.strip()]
    return found[0] if len(found) == 1 else found or None


def answers(socket, path):
    """[method, URL, status, answer] of every request."""
    found = []
    for method, url, body in requests(path):
        reply = call(socket, method, url, body, headers=TAR if body else None)
        found.append([method, url, reply.status, plain(url, decoded(reply.body))])
    return found


def compare(socket, path):
    with open(TABLE, encoding="utf-8") as stream:
        expected = json.load(stream)
    for ours, theirs in zip(answers(socket, path), expected, strict=True):
        assert ours == theirs


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine: the table's ids are of images for amd64")
def test_answers_are_dockerds(engine, tmp_path):
    compare(engine.socket, tmp_path / "a.tar")


@pytest.mark.skipif(not DOCKERD, reason="machine: DOCKERD_SOCKET names no dockerd to compare with")
def test_the_table_is_dockerds(tmp_path):
    compare(DOCKERD, tmp_path / "a.tar")


if __name__ == "__main__":
    with open(TABLE, "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in answers(DOCKERD, "/tmp/image-answers.tar")) + "\n]\n")
    os.unlink("/tmp/image-answers.tar")
