"""Versions in the path, unknown and unsupported routes, and hostile bodies, filters and numbers against a real daemon."""

import json
import socket
import urllib.parse

import pytest


def get(engine, url, method="GET", body=None, headers=None):
    return engine.api(method, url, body, headers=headers)


# --- versions


@pytest.mark.parametrize("minor", range(24, 52))
def test_every_version_in_the_path(engine, minor):
    assert get(engine, f"/v1.{minor}/_ping").body == b"OK"
    assert get(engine, f"/v1.{minor}/version").json["ApiVersion"] == "1.51"
    assert isinstance(get(engine, f"/v1.{minor}/containers/json").json, list)
    info = get(engine, f"/v1.{minor}/info").json
    assert ("Containerd" in info) is (minor >= 46) or "Containerd" not in info
    assert ("CgroupVersion" in info) is (minor >= 41)
    assert ("BridgeNfIptables" in info) is (minor < 50)


def test_a_path_without_version_is_the_newest(engine):
    assert get(engine, "/info").json.keys() == get(engine, "/v1.51/info").json.keys()


@pytest.mark.parametrize(("version", "status", "text"), [
    ("1.52", 400, "client version 1.52 is too new. Maximum supported API version is 1.51"),
    ("1.100", 400, "client version 1.100 is too new. Maximum supported API version is 1.51"),
    ("2.0", 400, "client version 2.0 is too new. Maximum supported API version is 1.51"),
    ("1.23", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to "
                  "a newer version"),
    ("1.9", 400, "client version 1.9 is too old. Minimum supported API version is 1.24, please upgrade your client to "
                 "a newer version"),
])
def test_versions_out_of_range(engine, version, status, text):
    answer = get(engine, f"/v{version}/info")
    if version in ("1.23", "1.9"):  # these clients know no JSON errors
        assert answer.status == status and text in answer.body.decode()
    else:
        assert (answer.status, answer.message) == (status, text)


def test_the_client_learns_the_version_from_a_ping(engine):
    answer = engine.docker("version", "--format", "{{.Client.APIVersion}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}}")
    client, newest, oldest = answer.stdout.split()
    assert client <= "1.51" and (newest, oldest) == ("1.51", "1.24")


def test_an_old_client_is_answered_in_its_version(engine):
    import os
    import subprocess

    from daemon_process import DOCKER
    environment = {**os.environ, "DOCKER_API_VERSION": "1.24", "DOCKER_HOST": f"unix://{engine.socket}"}
    done = subprocess.run([DOCKER, "ps", "-a"], env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and done.stdout.startswith("CONTAINER ID"), done.stderr


# --- routes


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/nope"), ("GET", "/v1.43/nope"), ("POST", "/containers"), ("DELETE", "/info"), ("GET", "/"),
    ("GET", "/containers/x/nope"), ("PATCH", "/containers/json"), ("GET", "/v1.43"), ("GET", "/v1.43/"),
    ("GET", "/images"), ("GET", "//info"), ("GET", "/containers/../info"), ("GET", "/info/"), ("PUT", "/volumes"),
    ("GET", "/v1.43/v1.43/info"), ("GET", "/%69nfo/x"),
])
def test_unknown_routes(engine, method, path):
    answer = get(engine, path, method)
    assert (answer.status, answer.message) == (404, "page not found")


@pytest.mark.parametrize("operation", [
    "GET /swarm", "POST /swarm/update", "GET /swarm/unlockkey", "GET /nodes", "GET /nodes/x", "GET /services",
    "POST /services/create", "GET /services/x/logs", "GET /tasks", "GET /tasks/x", "GET /secrets", "POST /secrets/create",
    "DELETE /secrets/x", "GET /configs", "POST /configs/x/update",
])
def test_swarm_outside_a_swarm(engine, operation):
    method, path = operation.split()
    answer = get(engine, f"/v1.50{path}", method)
    assert answer.status == 503
    assert answer.message == ('This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
                              "this node to swarm and try again.")


def test_leaving_no_swarm(engine):
    answer = get(engine, "/swarm/leave", "POST")
    assert (answer.status, answer.message) == (503, "This node is not part of a swarm")
    assert engine.api("GET", "/info").json["Swarm"]["LocalNodeState"] == "inactive"


@pytest.mark.parametrize("operation", [
    "POST /swarm/init", "POST /swarm/join", "GET /containers/{id}/checkpoints", "POST /containers/{id}/checkpoints",
    "POST /plugins/pull", "GET /plugins/{name:path}/json",
])
def test_what_is_known_and_not_done_says_its_name(engine, operation):
    method, path = operation.split()
    answer = get(engine, path.replace("{id}", "x").replace("{name}", "x").replace("{name:path}", "x"), method)
    if answer.status == 404:
        pytest.fail(f"{operation} answers 404, as if docker did not know it")
    assert answer.status == 501 and path in answer.message


@pytest.mark.parametrize("path", ["/grpc", "/session"])
@pytest.mark.parametrize(("headers", "text"), [
    ({}, "no upgrade proto in request"), ({"Upgrade": "websocket", "Connection": "Upgrade"}, "websocket not supported"),
])
def test_what_becomes_http2_says_so_first(engine, path, headers, text):
    answer = engine.api("POST", path, headers=headers)
    assert answer.status == 400 and text in answer.message


# --- bodies


def post(engine, url, text, content_type="application/json"):
    body = text if isinstance(text, bytes) else text.encode()
    return engine.api("POST", url, body, headers={"Content-Type": content_type})


DEEP = '{"Labels":' * 500 + "{}" + "}" * 500
BAD_BODIES = {
    "half": '{"Image":"busybox"', "words": "Image=busybox", "two values": '{"Image":"busybox"}{}', "a list": "[]",
    "a text": '"x"', "a number": "1", "deep": DEEP, "deeper": "[" * 100_000, "twice the same key": '{"Image":"a","Image":"b"}',
    "not a number": '{"Image":"busybox","HostConfig":{"Memory":NaN}}', "wrong type": '{"Image":7}',
    "text for a number": '{"Image":"busybox","HostConfig":{"Memory":"64m"}}',
    "fraction": '{"Image":"busybox","HostConfig":{"Memory":1.5}}',
    "out of range": '{"Image":"busybox","HostConfig":{"Memory":9223372036854775808}}',
    "a number of 5000 digits": '{"Image":"busybox","HostConfig":{"Memory":' + "9" * 5000 + "}}",
    "not utf-8": b'{"Image":"\xff\xfe"}', "utf-16": '{"Image":"busybox"}'.encode("utf-16"),
    "a lone surrogate": '{"Image":"busybox","Labels":{"a":"\\ud800"}}',
    "NUL in the command": '{"Image":"busybox","Cmd":["a\\u0000b"]}',
    "NUL in the environment": '{"Image":"busybox","Env":["a=\\u0000b"]}',
    "NUL in the working folder": '{"Image":"busybox","WorkingDir":"/a\\u0000b"}',
    "NUL in a bind": '{"Image":"busybox","HostConfig":{"Binds":["/tmp\\u0000:/x"]}}',
    "NUL in a mount": '{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp\\u0000","Target":"/x"}]}}',
    "NUL in a target": '{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x\\u0000y"}]}}',
    "NUL in the user": '{"Image":"busybox","User":"root\\u0000"}',
    "NUL in a host name": '{"Image":"busybox","Hostname":"a\\u0000b"}',
    "line end in a host name": '{"Image":"busybox","Hostname":"a\\nb"}',
    "line end in an extra host": '{"Image":"busybox","HostConfig":{"ExtraHosts":["a\\nb:1.2.3.4"]}}',
    "line end in a search domain": '{"Image":"busybox","HostConfig":{"DnsSearch":["a\\nnameserver 1.2.3.4"]}}',
    "line end in a resolver option": '{"Image":"busybox","HostConfig":{"DnsOptions":["a\\nnameserver 1.2.3.4"]}}',
    "dots in a sysctl": '{"Image":"busybox","HostConfig":{"Sysctls":{"net/../../kernel/hostname":"x"}}}',
    "a port of Unicode digits": '{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"\\u0668\\u0660"}]}}}',
    "a port with underscore": '{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8_0"}]}}}',
}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_bad_bodies_are_the_clients_fault(engine, what):
    answer = post(engine, "/containers/create", BAD_BODIES[what])
    assert answer.status == 400, answer.body[:300]
    assert answer.message and len(answer.message) < 1000 and "Traceback" not in answer.message
    assert engine.api("GET", "/containers/json?all=1").json == []


@pytest.mark.parametrize("url", [
    "/containers/create", "/networks/create", "/volumes/create", "/containers/{id}/exec", "/containers/{id}/update",
    "/networks/bridge/connect", "/auth", "/exec/{id}/start", "/commit?container={id}",
])
def test_malformed_json_everywhere(engine, url):
    container_id = engine.create()
    for text in ("{", '{"a":1', '["x"]', '{"a":1,"a":2}', "{} {}"):
        answer = post(engine, url.replace("{id}", container_id), text)
        assert answer.status in (400, 404), (url, text, answer.body)
        assert answer.message
    assert engine.inspect(container_id)["State"]["Status"] == "created"


def test_a_huge_body_is_refused(engine):
    answer = post(engine, "/containers/create", '{"Image":"busybox","Labels":{"a":"' + "x" * (6 << 20) + '"}}')
    assert answer.status in (400, 413) and "longer than" in answer.message
    assert engine.api("GET", "/_ping").status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "x"])
def test_bodies_that_do_not_say_they_are_json(engine, kind):
    answer = post(engine, "/containers/create", '{"Image":"busybox"}', kind)
    assert answer.status == 400 and "Content-Type" in answer.message


# --- fields that are known and not honoured


@pytest.mark.parametrize(("host", "name"), [
    ({"BlkioWeight": 5}, "blkio weight"), ({"StorageOpt": {"size": "1G"}}, "StorageOpt"),
    ({"DeviceRequests": [{"Count": 1, "Capabilities": [["gpu"]]}]}, "could not select device driver"),
    ({"DeviceCgroupRules": ["c 1:1 rwx"]}, "device cgroup rule"), ({"MemorySwappiness": 101}, "memory swappiness"),
    ({"VolumeDriver": "nope", "Binds": ["v1:/x"]}, 'volume plugin nope: plugin "nope" not found'),
    ({"LogConfig": {"Type": "fluentd"}}, "LogConfig"), ({"UsernsMode": "private"}, "user namespace mode"),
    ({"SecurityOpt": ["apparmor=docker-default"]}, "SecurityOpt"), ({"SecurityOpt": ["nope=1"]}, "security-opt"),
    ({"KernelMemory": 10 << 20}, "KernelMemory"), ({"Isolation": "hyperv"}, "Isolation"),
    ({"CpuCount": 2}, "CpuCount"), ({"BlkioDeviceReadBps": [{"Path": "/nope", "Rate": 1}]}, "stat /nope"),
    ({"CpuRealtimePeriod": 10, "CpuRealtimeRuntime": 20}, "real-time"), ({"PidMode": "x"}, "PID mode"),
    ({"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}}]}, "Subpath"),
    ({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": "../a"}}]}, "subpath"),
    ({"Mounts": [{"Type": "cluster", "Source": "v", "Target": "/x"}]}, "cluster"),
])
def test_fields_not_honoured_are_named(engine, host, name):
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert answer.status in (400, 404, 501) and name.lower() in answer.message.lower(), answer.body
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_unknown_fields_are_passed_over_as_in_go(engine):
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Nope": {"x": [1]}, "image": "nope"})
    assert answer.status in (201, 404)  # Go takes `image` for `Image`; we take it for unknown


# --- queries


def query(**words):
    return urllib.parse.urlencode(words)


@pytest.mark.parametrize("text", [
    "nope", "[]", '"x"', '{"label":1}', '{"label":{"x":1}}', '{"label":["a"],"label":["b"]}', '{"a":' * 50 + "1" + "}" * 50, "{",
])
@pytest.mark.parametrize("url", ["/containers/json", "/images/json", "/networks", "/volumes"])
def test_bad_filters(engine, url, text):
    answer = get(engine, f"{url}?{query(filters=text)}")
    assert (answer.status, answer.message) == (400, "invalid filter")


@pytest.mark.parametrize("url", ["/containers/json", "/images/json", "/networks", "/volumes"])
def test_unknown_filters_are_named(engine, url):
    answer = get(engine, f"{url}?{query(filters=json.dumps({'nope': ['x']}))}")
    assert (answer.status, answer.message) == (400, "invalid filter 'nope'")


@pytest.mark.parametrize(("url", "name"), [
    ("/containers/json", "limit"), ("/containers/{id}/logs?stdout=1", "since"), ("/containers/{id}/stop", "t"),
    ("/containers/{id}/resize", "h"), ("/containers/{id}/restart", "t"),
])
@pytest.mark.parametrize("text", ["1_0", "١٢", "１２", "0x10", "1e3", " 1", "1 ", "+1", "9" * 40, "--1", "1.5.5", "nan"])
def test_bad_numbers(engine, url, name, text):
    container_id = engine.create()
    method = "GET" if "json" in url or "logs" in url else "POST"
    url = url.replace("{id}", container_id)
    answer = get(engine, f"{url}{'&' if '?' in url else '?'}{query(**{name: text})}", method)
    if answer.status == 200 and name == "since" and text in ("+1", " 1", "1 "):
        pytest.fail(f"{text!r} taken for a number")
    assert answer.status == 400, answer.body
    assert answer.message


@pytest.mark.parametrize("name", ["../x", "..", "%2e%2e", "a%2fb", "%00", "a%00b", "%0a", "x" * 5000, "%ff", "%", "%zz", "🦆"])
def test_odd_names_are_not_found(engine, name):
    for url in (f"/containers/{urllib.parse.quote(name, safe='%/.')}/json", f"/volumes/{urllib.parse.quote(name, safe='%/.')}",
                f"/networks/{urllib.parse.quote(name, safe='%/.')}", f"/images/{urllib.parse.quote(name, safe='%/.')}/json"):
        answer = get(engine, url)
        assert answer.status in (400, 404), (url, answer.body)
        assert answer.message


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "-a", "a b", "a\0b", "a\nb", "é", "a" * 300, "_a"])
def test_odd_names_cannot_be_given(engine, name):
    if len(name) < 255:
        assert engine.api("POST", f"/containers/create?{query(name=name)}", {"Image": "busybox"}).status == 400
    assert engine.api("POST", "/volumes/create", {"Name": name}).status in (400, 500)
    assert engine.api("GET", "/containers/json?all=1").json == []
    assert not engine.api("GET", "/volumes").json["Volumes"]


# --- not HTTP at all


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /info HTTP/9.9\r\n\r\n", b"\0" * 100, b"GET /info HTTP/1.1\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n" + b"a" * 10,
])
def test_what_is_no_request_ends_with_400(engine, data):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(engine.socket)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert not answer or b" 400 " in answer.split(b"\r\n")[0] or b" 505 " in answer.split(b"\r\n")[0], answer[:200]
    assert engine.api("GET", "/_ping").status == 200
