"""POST /build?version=2: BuildKit's builder with the context in the request's body, or by a session beside it."""

import asyncio
import base64
import json
import os
import socket
import time
import urllib.parse

import pytest
from build_context import FILES, archive, begin, build_folders

from corten.build.buildkit.connection import serve
from corten.build.buildkit.messages import MESSAGES
from corten.cli.buildkit.agents import Agents
from corten.cli.buildkit.asked import Asked, Secret
from corten.cli.buildkit.session import Services
from corten.cli.client import Client

PATIENCE_S = 60
EXPOSE = "X-Docker-Expose-Session-"


class Told:
    """One build's answer: what was traced (vertices by name, logs), the messages besides."""

    def __init__(self, answer):
        assert answer.status == 200, answer.body
        messages = [json.loads(line) for line in answer.body.split(b"\r\n") if line]
        traces = [MESSAGES["StatusResponse"].FromString(base64.b64decode(one["aux"])) for one in messages
                  if one.get("id") == "moby.buildkit.trace"]
        self.vertices = {vertex.name: vertex for one in traces for vertex in one.vertexes}
        self.logs = b"".join(log.msg for one in traces for log in one.logs).decode()
        self.others = [one for one in messages if one.get("id") != "moby.buildkit.trace"]

    @property
    def error(self):
        return self.others[-1].get("error", "")

    @property
    def image(self):
        (last,) = self.others
        assert last["id"] == "moby.image.id"
        return last["aux"]["ID"]


def post(engine, text, body=None, **query):
    data = archive({**FILES, "Dockerfile": text.encode()}) if body is None else body
    url = "/build?" + urllib.parse.urlencode({"version": "2", **query})
    return Told(engine.api("POST", url, data, headers={"Content-Type": "application/x-tar"}))


def test_a_tar_is_built_by_buildkit(engine, leaks):
    mark = os.urandom(8).hex()
    text = f"""FROM busybox AS unused
RUN echo never; exit 1
FROM busybox
ARG A
COPY --chmod=600 a.txt /a
RUN --mount=type=cache,target=/c,id={mark} echo A=$A; stat -c %a /a; touch /c/kept
RUN --mount=type=cache,target=/c,id={mark} ls /c
"""
    told = post(engine, text, t="posted:1", buildargs='{"A":"given"}', labels='{"k":"v"}')
    assert "A=given\n600\nkept\n" in told.logs and "never" not in told.logs
    assert any("RUN" in name and vertex.HasField("completed") for name, vertex in told.vertices.items())
    image = engine.api("GET", "/images/posted:1/json").json
    assert image["Id"] == told.image and image["Config"]["Labels"] == {"k": "v"}
    again = post(engine, text, buildargs='{"A":"given"}', labels='{"k":"v"}')
    assert again.image == told.image and not again.logs
    assert "kept" in post(engine, text, buildargs='{"A":"given"}', nocache="1").logs
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_failures_and_what_a_quiet_build_tells(engine, leaks):
    told = post(engine, "FROM busybox\nRUN echo so far; exit 3\n")
    message = 'process "/bin/sh -c echo so far; exit 3" did not complete successfully: exit code: 3'
    assert told.others == [{"errorDetail": {"message": message}, "error": message}] and "so far" in told.logs
    quiet = post(engine, "FROM busybox\nRUN echo so far; exit 3\n", q="1")
    assert quiet.others == told.others and "so far" in quiet.logs, "a failure tells what it has kept"
    told = post(engine, "FROM busybox\nRUN true\n", q="1")
    (line,) = told.others
    assert not told.vertices and engine.api("GET", f"/images/{line['stream'].strip()}/json").status == 200
    assert post(engine, "FROM busybox\n", dockerfile="absent").error == "failed to read dockerfile: open absent: no such file or directory"
    assert post(engine, "FROM busybox\nRUM x\n").error.startswith("dockerfile parse error on line 2: unknown instruction: RUM")
    assert post(engine, "FROM busybox\nRUN true\n", outputs='[{"Type":"cacheonly"}]').others == []
    assert "client takes no files" in post(engine, "FROM busybox\n", outputs='[{"Type":"tar"}]').error
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_limits_and_networks_of_steps(engine, leaks):
    told = post(engine, "FROM busybox\nRUN ls /sys/class/net; ulimit -n; grep -c far /etc/hosts\n", nocache="1", networkmode="none",
                ulimits='[{"Name":"nofile","Soft":99,"Hard":99}]', extrahosts="far:10.9.8.7")
    assert told.logs == "lo\n99\n1\n"


def test_an_event_tells_of_the_image_that_stays(engine):
    since = time.time()
    told = post(engine, "FROM busybox\nRUN echo 1 >/event\nRUN echo 2 >/event\n", nocache="1", t="evented:2")
    answer = engine.api("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    found = [(event["Action"], event["Actor"]["ID"]) for event in map(json.loads, answer.body.splitlines()) if event["Type"] == "image"]
    assert found == [("create", told.image), ("tag", told.image)]


def test_an_inline_cache_is_part_of_the_image(engine):
    built = post(engine, "FROM busybox\nRUN echo 1 >/one\n", buildargs='{"BUILDKIT_INLINE_CACHE":"1"}', t="inlined")
    plain = post(engine, "FROM busybox\nRUN echo 1 >/one\n")
    assert engine.api("GET", "/images/inlined/json").json["Id"] == built.image != plain.image


@pytest.mark.parametrize("cancel", [True, False])
def test_it_ends_when_it_is_cancelled_or_its_client_leaves(engine, leaks, cancel):
    client = begin(engine, "FROM busybox\nRUN echo begun; sleep 600\n", "version=2&buildid=posted")
    deadline = time.monotonic() + PATIENCE_S
    while not engine.api("GET", "/containers/json").json:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if cancel:
        assert engine.api("POST", "/build/cancel?id=posted").status == 200
        client.settimeout(PATIENCE_S)
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):
            piece = client.recv(65536)
            assert piece, seen
            seen += piece
        assert b'"error":"context canceled"' in seen
    client.close()
    while engine.api("GET", "/containers/json?all=1").json or build_folders(engine):
        assert time.monotonic() < deadline
        time.sleep(0.05)


class _Taken:
    def __init__(self, connection):
        self._sock, self._ahead = socket.socket(fileno=connection.sock.detach()), connection.ahead

    def detach(self):
        self._sock.setblocking(False)
        return self._sock, self._ahead


def test_a_context_by_a_session(engine, tmp_path, leaks):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY file /\nRUN --mount=type=secret,id=key cat /file /run/secrets/key\n")
    (tmp_path / "file").write_text("by session\n")
    (tmp_path / "key").write_text("hush\n")
    asked = Asked()
    asked.folders = {"context": str(tmp_path), "dockerfile": str(tmp_path)}
    asked.secrets = {"key": Secret(path=str(tmp_path / "key"))}

    async def both():
        services = Services(asked, "/nowhere", Agents({}, ""), lambda data: None)
        name = os.urandom(16).hex()
        headers = [(f"{EXPOSE}Uuid", name), *((f"{EXPOSE}Grpc-Method", path) for path in services.methods)]
        connection = Client(f"unix://{engine.socket}").hijack("/session", upgrade="h2c", headers=headers)
        serving = asyncio.create_task(serve(_Taken(connection), services.methods))
        try:
            return await asyncio.to_thread(post, engine, "", b"", remote="client-session", session=name, t="lent:1")
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    told = asyncio.run(both())
    assert told.logs.startswith("by session\nhush\n")
    assert engine.api("GET", "/images/lent:1/json").json["Id"] == told.image
