"""Every honoured field of a create request does what it says: looked at from within the container, or from beside it."""

import json
import os
import re
import socket
import time

import pytest
from compat_fields import HONOURED, REFUSED, TABLES
from field_effects import INSIDE, WATCHED

FIELDS = [(title, name) for title, table in INSIDE.items() for name in table]
TABLE = {title: table for title, _, table in TABLES}


@pytest.mark.parametrize("title", list(TABLE))
def test_every_honoured_field_is_looked_at(title):
    honoured = {name for name, (_, status, _) in TABLE[title].items() if status == HONOURED}
    also = {"MemorySwappiness"}  # refused out of its range only
    assert honoured | (also & set(TABLE[title])) == set(INSIDE[title]) | set(WATCHED[title])
    assert all(f"test_{title}_{name}" in globals() for name in WATCHED[title] if not name.startswith("BlkioDevice"))


def eventually(look, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"it does not come: {what}"
        time.sleep(0.05)
    return found


def body_of(title, members):
    return {"HostConfig": members} if title == "HostConfig" else members


@pytest.fixture
def parent():
    """A control group's name; what is left of it goes."""
    name = f"/corten-field-{os.getpid()}"
    yield name
    for place, _folders, _files in os.walk("/sys/fs/cgroup", topdown=False):
        if place.endswith(name):
            os.rmdir(place)


@pytest.mark.parametrize(("title", "name"), FIELDS)
def test_from_within(engine, tmp_path, parent, title, name):
    members, script, says = INSIDE[title][name]
    (tmp_path / "f").write_text("bound")
    members = json.loads(json.dumps(members).replace("{tmp}", str(tmp_path)).replace("{parent}", parent))
    ref = engine.create("sh", "-c", script, **body_of(title, members))
    started = engine.api("POST", f"/containers/{ref}/start")
    if "absent" in says and started.status >= 400 and "cgroup" in started.message:  # a kernel without that file
        pytest.skip("machine: no such controller")
    assert started.status == 204, started.message
    engine.wait(ref)
    text = engine.api("GET", f"/containers/{ref}/logs?stdout=1").body.decode() if members.get("Tty") else engine.logs(ref)
    found = text.replace("\r", "").strip("\n")
    if found == "absent" and not re.fullmatch(says, found):
        pytest.skip("machine: no such controller")
    assert re.fullmatch(says.replace("{parent}", parent), found), found
    plain = engine.run("sh", "-c", script)
    engine.wait(plain)
    if name not in ("Cmd", "Image", "CpusetCpus", "CpusetMems") and "absent" not in found:  # the machine may have one CPU
        assert engine.logs(plain).strip("\n") != found, "without the field it is not so"
    assert engine.api("DELETE", f"/containers/{ref}?force=1&v=1").status == 204


REFUSALS = [(title, name) for title, table in TABLE.items() for name, (_, status, _) in table.items() if status == REFUSED]
WORDS = {  # by which a refusal names its field, where that is not the field's own name
    "BlkioWeight": "blkio weight", "BlkioWeightDevice": "/nonesuch", "DeviceRequests": "device driver", "Isolation": "isolation",
    "CpuRealtimePeriod": "real-?time|rt_", "CpuRealtimeRuntime": "real-?time|rt_", "UsernsMode": "user namespace mode",
    "MemorySwappiness": "memory swappiness",
}


@pytest.mark.parametrize(("title", "name"), REFUSALS)
def test_a_refusal_names_its_field(engine, title, name):
    members = {"CpuRealtimePeriod": 10, "CpuRealtimeRuntime": 20} if name.startswith("CpuRealtime") else {
        name: TABLE[title][name][0]}
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], **body_of(title, members)})
    assert answer.status in (400, 501)
    assert re.search(WORDS.get(name, name), answer.message, re.IGNORECASE), answer.message


# --- looked at from beside


def test_HostConfig_Annotations(engine):
    ref = engine.run(HostConfig={"Annotations": {"field": "seen"}})
    (row,) = [row for row in engine.api("GET", "/containers/json").json if row["Id"] == ref]
    assert row["HostConfig"]["Annotations"] == {"field": "seen"}
    with open(f"{engine.folder}/run/runtime/{ref}/config.json") as file:
        assert json.load(file)["annotations"]["field"] == "seen"


def test_HostConfig_AutoRemove(engine):
    ref = engine.run("true", HostConfig={"AutoRemove": True})
    eventually(lambda: engine.api("GET", f"/containers/{ref}/json").status == 404, "its removal")


def test_HostConfig_ConsoleSize(engine):
    ref = engine.run("stty", "size", Tty=True, HostConfig={"ConsoleSize": [41, 103]})
    assert engine.wait(ref) == 0
    assert engine.api("GET", f"/containers/{ref}/logs?stdout=1").body.strip() == b"41 103"


def test_HostConfig_Links(engine):
    target = engine.run(name="linked-to")
    ref = engine.run("cat", "/etc/hosts", HostConfig={"Links": ["linked-to:friend"]})
    assert engine.wait(ref) == 0
    address = engine.inspect(target)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert re.search(rf"^{address}\s+.*\bfriend\b", engine.logs(ref), re.MULTILINE)


def test_HostConfig_LogConfig(engine):
    ref = engine.run("echo", "lost", HostConfig={"LogConfig": {"Type": "none", "Config": {}}})
    assert engine.wait(ref) == 0
    answer = engine.api("GET", f"/containers/{ref}/logs?stdout=1")
    assert b"lost" not in answer.body and "does not support reading" in answer.body.decode()


def answers_at_its_port(engine, host):
    ref = engine.run("sh", "-c", "while echo published | nc -l -p 80; do :; done", ExposedPorts={"80/tcp": {}}, HostConfig=host)
    (binding, *_) = engine.inspect(ref)["NetworkSettings"]["Ports"]["80/tcp"]

    def ask():
        try:
            with socket.create_connection(("127.0.0.1", int(binding["HostPort"])), 5) as client:
                return client.recv(100) == b"published\n"
        except OSError:
            return False

    eventually(ask, "an answer of the port")


def test_HostConfig_PortBindings(engine):
    answers_at_its_port(engine, {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}})


def test_HostConfig_PublishAllPorts(engine):
    answers_at_its_port(engine, {"PublishAllPorts": True})


def test_HostConfig_RestartPolicy(engine):
    ref = engine.run("sh", "-c", "echo started; exit 3", HostConfig={"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}})
    eventually(lambda: engine.inspect(ref)["State"]["Status"] == "exited", "its last end")
    assert engine.inspect(ref)["RestartCount"] == 2
    assert engine.logs(ref) == "started\n" * 3


def test_HostConfig_Runtime(engine):
    assert engine.wait(engine.run("true", HostConfig={"Runtime": "runc"})) == 0
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Runtime": "x"}})
    assert (answer.status, answer.message) == (400, "unknown or invalid runtime name: x")


def test_HostConfig_VolumeDriver(engine):
    ref = engine.run("true", Volumes={"/x": {}}, HostConfig={"VolumeDriver": "local"})
    (point,) = engine.inspect(ref)["Mounts"]
    assert engine.api("GET", f"/volumes/{point['Name']}").json["Driver"] == "local"
    answer = engine.api("POST", "/containers/create", {
        "Image": "busybox", "Cmd": ["true"], "Volumes": {"/x": {}}, "HostConfig": {"VolumeDriver": "nobody"}})
    assert answer.status >= 400 and "nobody" in answer.message


def test_HostConfig_VolumesFrom(engine):
    giver = engine.run("sh", "-c", "echo given >/x/f", Volumes={"/x": {}})
    assert engine.wait(giver) == 0
    ref = engine.run("sh", "-c", "cat /x/f; touch /x/g 2>&1", HostConfig={"VolumesFrom": [f"{giver}:ro"]})
    engine.wait(ref)
    assert re.fullmatch("given\ntouch: .*: Read-only file system\n", engine.logs(ref))


@pytest.mark.parametrize(("field", "file", "word"), [
    ("BlkioDeviceReadBps", "read_bps", "rbps"), ("BlkioDeviceReadIOps", "read_iops", "riops"),
    ("BlkioDeviceWriteBps", "write_bps", "wbps"), ("BlkioDeviceWriteIOps", "write_iops", "wiops")])
def test_HostConfig_BlkioDevice(engine, field, file, word):
    disks = [name for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}")]
    if not disks:
        pytest.skip("machine: no block device")
    device = os.stat(f"/dev/{disks[0]}").st_rdev
    script = (f"cat /sys/fs/cgroup/blkio/blkio.throttle.{file}_device 2>/dev/null || cat /sys/fs/cgroup/io.max 2>/dev/null || "
              "echo absent")
    ref = engine.run("sh", "-c", script, HostConfig={field: [{"Path": f"/dev/{disks[0]}", "Rate": 1048576}]})
    engine.wait(ref)
    number = f"{os.major(device)}:{os.minor(device)}"
    if engine.logs(ref) == "absent\n":
        pytest.skip("machine: no blkio controller")
    assert re.search(rf"^{number} (1048576|.*\b{word}=1048576)\b", engine.logs(ref), re.MULTILINE), engine.logs(ref)


def test_Config_ExposedPorts(engine):
    ref = engine.run(ExposedPorts={"81/udp": {}})
    (row,) = [row for row in engine.api("GET", "/containers/json").json if row["Id"] == ref]
    assert row["Ports"] == [{"PrivatePort": 81, "Type": "udp"}]


def health(engine, ref):
    return engine.inspect(ref)["State"]["Health"]


def test_Config_Healthcheck(engine):
    check = {"Test": ["CMD", "test", "-e", "/ready"], "Interval": 50_000_000, "Retries": 1000}
    ref = engine.run("sh", "-c", "touch /ready; sleep 1000", Healthcheck=check)
    eventually(lambda: health(engine, ref)["Status"] == "healthy", "its health")


def test_Config_Shell(engine):
    check = {"Test": ["CMD-SHELL", "words"], "Interval": 50_000_000}
    ref = engine.run(Shell=["/bin/echo", "by", "the", "shell"], Healthcheck=check)
    eventually(lambda: health(engine, ref)["Status"] == "healthy", "its health")
    assert health(engine, ref)["Log"][-1]["Output"] == "by the shell words\n"


def test_Config_Labels(engine):
    ref = engine.create(Labels={"field": "label"})
    engine.create(Labels={"field": "other"})
    query = "?all=1&filters=%7B%22label%22%3A%5B%22field%3Dlabel%22%5D%7D"
    assert [row["Id"] for row in engine.api("GET", f"/containers/json{query}").json] == [ref]


def test_Config_StdinOnce(engine):
    done = engine.docker("run", "--rm", "-i", "busybox", "cat", stdin="to the end\n")  # -i asks for OpenStdin and StdinOnce
    assert (done.returncode, done.stdout) == (0, "to the end\n"), done.stderr


def test_Config_StopSignal(engine):
    ref = engine.run("sh", "-c", "trap 'exit 7' INT; echo up; while :; do sleep 0.1; done", StopSignal="SIGINT")
    eventually(lambda: engine.logs(ref) == "up\n", "its start")
    assert engine.api("POST", f"/containers/{ref}/stop?t=60").status == 204
    assert engine.wait(ref) == 7


def test_Config_StopTimeout(engine):
    """The program takes longer to end than the ten seconds that are the default."""
    ref = engine.run("sh", "-c", "trap 'sleep 11; exit 8' TERM; echo up; while :; do sleep 0.1; done", StopTimeout=100)
    eventually(lambda: engine.logs(ref) == "up\n", "its start")
    assert engine.api("POST", f"/containers/{ref}/stop", timeout=120).status == 204
    assert engine.wait(ref) == 8
