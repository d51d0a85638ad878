"""Images over real HTTP: statuses, version fields, archives streamed both ways."""

import http.client
import json
import os
import socket
import uuid

import pytest
from image_fixture import SmallEngine, needs_root
from images import busybox_archive
from server_fixture import ServerThread

from corten.api.images import ROUTES

pytestmark = needs_root


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("engine", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


@pytest.fixture
def ask():
    root = f"/var/tmp/corten-test-api-images-{uuid.uuid4().hex[:8]}"
    os.makedirs(root)
    made = []

    def engine():
        made.append(SmallEngine(root))  # in the server's thread: the database belongs to the one that opened it
        return made[0]

    with ServerThread(ROUTES, engine) as server:
        def ask(method, path, body=None, headers=None):
            connection = Connection(server.path)
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            return answer.status, data

        yield ask
    made[0].images.store.snapshots.flush()
    import shutil

    shutil.rmtree(root)


def test_a_round(ask, tmp_path):
    image_id = busybox_archive(tmp_path / "b.tar", ["a/b:1"])
    with open(tmp_path / "b.tar", "rb") as stream:
        status, data = ask("POST", "/v1.51/images/load?quiet=1", stream, {"Content-Type": "application/x-tar"})
    assert (status, json.loads(data)) == (200, {"stream": "Loaded image: a/b:1\n"})
    assert ask("POST", "/images/a/b:1/tag?repo=c/d/e&tag=2")[0] == 201
    status, data = ask("GET", "/images/c/d/e:2/json")
    assert status == 200 and json.loads(data)["Id"] == image_id
    assert json.loads(ask("GET", "/images/a/b:1/history")[1])[0]["Id"] == image_id
    status, saved = ask("GET", "/images/get?names=a/b:1&names=c/d/e:2")
    assert status == 200 and len(saved) > os.path.getsize(tmp_path / "b.tar") - 20480
    assert json.loads(ask("DELETE", "/images/c/d/e:2")[1]) == [{"Untagged": "c/d/e:2"}]
    assert ask("DELETE", "/images/a/b:1")[0] == 200
    assert b"Loaded image: a/b:1" in ask("POST", "/images/load", saved)[1]


def test_refusals_have_docker_statuses(ask):
    assert ask("GET", "/images/nope/json") == (404, b'{"message":"No such image: nope:latest"}\n')
    assert ask("GET", "/images/UP/json")[0] == 400
    assert ask("DELETE", "/images/host")[0] == 403
    assert ask("GET", "/images/host/get")[0] == 403
    assert ask("GET", "/images/json?filters=%7B%22x%22%3A%5B%22y%22%5D%7D")[0] == 400
    assert ask("POST", "/images/host/tag?repo=x")[0] == 403
    status, data = ask("POST", "/images/load", b"this is no archive" * 100)
    assert status == 200 and "error" in json.loads(data)


def test_fields_by_version(ask):
    new, old = json.loads(ask("GET", "/v1.51/images/json")[1])[0], json.loads(ask("GET", "/v1.40/images/json")[1])[0]
    assert "VirtualSize" not in new and old["VirtualSize"] == old["Size"]
    assert new["Containers"] == 0 and old["Containers"] == -1
