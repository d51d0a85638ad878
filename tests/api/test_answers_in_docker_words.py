"""What clients and suites of docker compare word by word: refusals, sizes, paths, limits."""

import io
import tarfile

import pytest

BODIES = ["/commit?container={id}", "/containers/create", "/containers/{id}/exec", "/containers/{id}/update",
          "/exec/none/start", "/networks/create", "/volumes/create"]
PIDS_MAX = ("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max")


@pytest.fixture
def sleeper(engine):
    container = engine.run("sleep", "1000")
    yield container
    engine.api("DELETE", f"/containers/{container}?force=1")


def sent(engine, path, body, kind="application/json"):
    answer = engine.api("POST", path, body, headers={"Content-Type": kind})
    return answer.status, answer.message


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("body", "kind", "text"), [
    (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
    (b"{bad", "application/json", "invalid JSON: invalid character 'b' looking for beginning of object key string"),
    (b"{} more", "application/json", "unexpected content after JSON"),
    (b'{"a": 1', "application/json", "invalid JSON: unexpected EOF"),
    (b'{"a": [1 2]}', "application/json", "invalid JSON: invalid character '2' after array element"),
])
def test_bad_bodies_are_told_before_anything_is_looked_up(engine, path, body, kind, text):
    status, message = sent(engine, path.format(id="nobody"), body, kind)
    assert (status, message) == (400, message) and text in message


def test_sizes_of_terminals(engine, sleeper):
    made = engine.api("POST", f"/containers/{sleeper}/exec", {"Cmd": ["sleep", "1000"], "Tty": True}).json["Id"]
    for place in (f"/exec/{made}", f"/containers/{sleeper}"):
        for height, reason in (("-100", "value out of range"), ("x", "invalid syntax"), ("4294967296", "value out of range"),
                               ("", "invalid syntax")):
            answer = engine.api("POST", f"{place}/resize?h={height}&w=80")
            assert (answer.status, answer.message) == (400, f'invalid resize height "{height}": {reason}')


def names(engine, container, path):
    answer = engine.api("GET", f"/containers/{container}/archive?path={path}")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        return [member.name for member in archive.getmembers()]


@pytest.mark.parametrize("path", [".", "/.", "./", "/./"])
def test_the_root_here_is_named_by_a_dot(engine, sleeper, path):
    found = names(engine, sleeper, path)
    assert found[0] == "." and "./bin/busybox" in found
    assert "/bin/busybox" in names(engine, sleeper, "/")


def test_a_file_is_no_folder(engine, sleeper):
    for method in ("GET", "HEAD"):
        assert engine.api(method, f"/containers/{sleeper}/archive?path=/etc/hosts/").status == 400
    assert engine.api("GET", f"/containers/{sleeper}/archive?path=/etc/hosts/").message == "not a directory"
    put = engine.api("PUT", f"/containers/{sleeper}/archive?path=/etc/hosts/", bytes(1024))
    assert (put.status, put.message) == (400, "extraction point is not a directory")


def test_one_network_at_creation_for_old_clients(engine):
    body = {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"bridge": {}, "other": {}}}}
    answer = engine.api("POST", "/v1.43/containers/create", body)
    assert answer.status == 400
    assert answer.message.startswith("Container cannot be created with multiple network endpoints")


def test_networks_are_listed_with_a_slash_too(engine):
    assert engine.api("GET", "/networks/").json == engine.api("GET", "/networks").json


def test_a_process_namespace_of_a_stopped_container(engine):
    nobody = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"PidMode": "container:nobody"}})
    assert (nobody.status, nobody.message) == (400, "No such container: nobody")
    stopped = engine.create("true")
    joining = engine.create("true", HostConfig={"PidMode": f"container:{stopped}"})
    answer = engine.api("POST", f"/containers/{joining}/start")
    assert (answer.status, answer.message) == (500, f"failed to join PID namespace: container {stopped} is not running")


def test_the_process_limit_is_taken_away(engine):
    container = engine.run("sleep", "1000", HostConfig={"PidsLimit": 16})
    for asked, kept, seen in ((8, 8, "8"), (-1, 0, "max"), (9, 9, "9"), (0, 0, "max")):
        assert engine.api("POST", f"/containers/{container}/update", {"PidsLimit": asked}).status == 200
        assert engine.inspect(container)["HostConfig"]["PidsLimit"] == kept
        found = engine.docker("exec", container, "sh", "-c", f"cat {' || cat '.join(PIDS_MAX)}").stdout
        assert found.split() == [seen]
    assert engine.api("POST", f"/v1.39/containers/{container}/update", {"PidsLimit": 5}).status == 200
    assert engine.inspect(container)["HostConfig"]["PidsLimit"] == 0  # older than the field
    assert engine.api("POST", f"/containers/{container}/update", {"Memory": 64 << 20}).status == 200
    assert engine.inspect(container)["HostConfig"]["PidsLimit"] == 0


def test_a_restart_policy_against_removal(engine):
    container = engine.run("sleep", "1000", HostConfig={"AutoRemove": True})
    answer = engine.api("POST", f"/containers/{container}/update", {"RestartPolicy": {"Name": "always"}})
    text = "Restart policy cannot be updated because AutoRemove is enabled for the container"
    assert (answer.status, answer.message) == (409, text)
    engine.api("DELETE", f"/containers/{container}?force=1")


def test_a_working_directory_is_shown_clean(engine):
    assert engine.inspect(engine.create("true", WorkingDir="/tmp//x/../"))["Config"]["WorkingDir"] == "/tmp"


@pytest.mark.parametrize(("host", "text"), [
    ({"Annotations": {"": "x"}}, "invalid Annotations: the empty string is not permitted as an annotation key"),
    ({"CpuShares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
    ({"SecurityOpt": ["writable-cgroups=1"]}, 'invalid --security-opt 2: "writable-cgroups=1"'),
])
def test_refusals_at_creation(engine, host, text):
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert (answer.status, answer.message) == (400, text)


@pytest.mark.parametrize(("option", "can"), [("writable-cgroups", True), ("writable-cgroups=true", True),
                                             ("writable-cgroups=false", False)])
def test_groups_that_a_container_may_make(engine, option, can):
    script = "for d in /sys/fs/cgroup/pids /sys/fs/cgroup; do mkdir $d/mine 2>/dev/null && rmdir $d/mine && exit 0; done; exit 1"
    container = engine.run("sh", "-c", script, HostConfig={"SecurityOpt": [option]})
    assert (engine.wait(container) == 0) is can


def test_no_tag_looks_like_a_digest(engine):
    answer = engine.api("POST", "/images/busybox/tag?repo=sha256&tag=x")
    assert (answer.status, answer.message) == (400, "refusing to create an ambiguous tag using digest algorithm as name")


def test_nothing_is_imported_as_an_empty_image(engine):
    answer = engine.api("POST", "/images/create?fromSrc=-&repo=empty-import&platform=linux/sparc64", b"",
                        headers={"Content-Type": "application/x-tar"})
    assert answer.status == 200 and b"errorDetail" not in answer.body, answer.body
    found = engine.api("GET", "/images/empty-import/json").json
    assert (found["Architecture"], found["Size"]) == ("sparc64", 0)
    engine.api("DELETE", "/images/empty-import")


@pytest.mark.parametrize("platform", ["%20%20", "/", "a%20b/c"])
def test_platforms_that_are_none(engine, platform):
    answer = engine.api("POST", f"/images/create?fromSrc=-&repo=none&platform={platform}", bytes(1024))
    assert answer.status == 400 and "is an invalid OS component of" in answer.message


def test_the_own_group_is_among_the_others(engine):
    """CVE-2022-36109: without it a file that shuts out a group could be opened by giving the group up."""
    for user, groups in (("", ["0"]), ("5:6", ["6"])):
        container = engine.run("sleep", "1000", User=user)
        seen = engine.docker("exec", container, "grep", "^Groups", "/proc/self/status", "/proc/1/status").stdout
        assert [line.split()[1:] for line in seen.splitlines()] == [groups, groups]
        engine.api("DELETE", f"/containers/{container}?force=1")
