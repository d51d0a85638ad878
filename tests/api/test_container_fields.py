"""HostConfig fields that reach the kernel: each is looked at from inside or below the container that asked for it."""

import os

import pytest


def cgroup_file(engine, ref, controller, name, parent=""):
    pid = engine.inspect(ref)["State"]["Pid"]
    with open(f"/proc/{pid}/cgroup") as file:
        rows = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in rows:
        if controller in controllers.split(","):
            place = f"/sys/fs/cgroup/{controller}{path}"
            return open(f"{place}/{name}").read() if os.path.exists(f"{place}/{name}") else None
    return None


def output(engine, *command, **body):
    ref = engine.run(*command, **body)
    assert engine.wait(ref) == 0, engine.logs(ref)
    return engine.logs(ref)


def refused(engine, ref):
    answer = engine.api("POST", f"/containers/{ref}/start")
    assert answer.status >= 400
    return answer.message


def test_memory_swappiness(engine):
    ref = engine.run(HostConfig={"MemorySwappiness": 40})
    found = cgroup_file(engine, ref, "memory", "memory.swappiness")
    if found is None:
        pytest.skip("machine: no v1 memory controller")
    assert found == "40\n" and engine.inspect(ref)["HostConfig"]["MemorySwappiness"] == 40
    assert engine.api("POST", f"/containers/{ref}/update", {"MemorySwappiness": 30}).status == 200
    assert cgroup_file(engine, ref, "memory", "memory.swappiness") == "30\n"


def test_device_rules_let_a_node_be_opened(engine, leaks):
    body = {"HostConfig": {"CapAdd": ["MKNOD"], "DeviceCgroupRules": ["c 10:229 rwm"]}}
    script = "mknod /dev/node c 10 229 && cat /dev/node; echo $?"
    denied = output(engine, "sh", "-c", script, HostConfig={"CapAdd": ["MKNOD"]})
    allowed = output(engine, "sh", "-c", script, **body)
    assert "can't open" in denied and "can't open" not in allowed
    assert engine.inspect(engine.create(**body))["HostConfig"]["DeviceCgroupRules"] == ["c 10:229 rwm"]


def test_block_limits_reach_the_cgroup(engine):
    disks = [name for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}")]
    if not disks:
        pytest.skip("machine: no block device")
    limits = [{"Path": f"/dev/{disks[0]}", "Rate": 1 << 20}]
    ref = engine.run(HostConfig={"BlkioDeviceReadBps": limits, "BlkioDeviceWriteIOps": limits})
    found = cgroup_file(engine, ref, "blkio", "blkio.throttle.read_bps_device")
    if found is None:
        pytest.skip("machine: no v1 blkio controller")
    device = os.stat(f"/dev/{disks[0]}").st_rdev
    number = f"{os.major(device)}:{os.minor(device)}"
    assert found == f"{number} 1048576\n"
    assert cgroup_file(engine, ref, "blkio", "blkio.throttle.write_iops_device") == f"{number} 1048576\n"
    assert engine.inspect(ref)["HostConfig"]["BlkioDeviceReadBps"] == limits


def test_cgroup_parent(engine):
    parent = f"/corten-parent-{os.getpid()}"
    try:
        ref = engine.run(HostConfig={"CgroupParent": parent, "Memory": 32 << 20})
        with open(f"/proc/{engine.inspect(ref)['State']['Pid']}/cgroup") as file:
            assert f"{parent}/{ref}" in file.read()
        assert engine.api("POST", f"/containers/{ref}/pause").status == 204
        assert engine.api("POST", f"/containers/{ref}/unpause").status == 204
        assert engine.api("GET", f"/containers/{ref}/stats?stream=0").json["memory_stats"]["limit"] == 32 << 20
        assert engine.api("DELETE", f"/containers/{ref}?force=1").status == 204
        for place, folders, _files in os.walk("/sys/fs/cgroup"):
            if place.endswith(parent):
                assert not folders
    finally:
        for place, folders, _files in os.walk("/sys/fs/cgroup", topdown=False):
            if place.endswith(parent):
                os.rmdir(place)


def test_the_process_namespace_of_another_container(engine):
    donor = engine.run("sleep", "1234", name="donor")
    text = output(engine, "ps", HostConfig={"PidMode": "container:donor"})
    assert "sleep 1234" in text
    stopped = engine.create("true", name="idle")
    assert "is not running" in refused(engine, engine.create("true", HostConfig={"PidMode": f"container:{stopped}"}))
    assert engine.inspect(engine.create(HostConfig={"PidMode": "container:donor"}))["HostConfig"]["PidMode"] == (
        f"container:{donor}")


def test_writable_cgroups(engine, leaks):
    mounts = output(engine, "cat", "/proc/mounts", HostConfig={"SecurityOpt": ["writable-cgroups=true"]})
    assert all("rw" in line.split()[3].split(",") for line in mounts.splitlines() if line.split()[2] == "cgroup")


# --- volumes and mounts


def volume(engine, name, **options):
    answer = engine.api("POST", "/volumes/create", {"Name": name, "DriverOpts": options or None})
    assert answer.status == 201, answer.body
    return answer.json["Mountpoint"]


def mount(**members):
    return {"HostConfig": {"Mounts": [{"Target": "/x", **members}]}}


def test_a_subpath_of_a_volume(engine, leaks):
    place = volume(engine, "parts")
    os.makedirs(f"{place}/a/b")
    with open(f"{place}/a/b/file", "w") as file:
        file.write("below\n")
    os.symlink("/etc", f"{place}/away")
    os.symlink("a/b", f"{place}/inside")
    for path in ("a/b", "inside"):
        body = mount(Type="volume", Source="parts", VolumeOptions={"Subpath": path})
        assert output(engine, "cat", "/x/file", **body) == "below\n"
    for path, told in (("away", f"path concatenation escapes the base directory, base: {place}, subpath: away"),
                       ("none", f"cannot access path {place}/none: no such file or directory")):
        ref = engine.create("true", **mount(Type="volume", Source="parts", VolumeOptions={"Subpath": path}))
        assert told in refused(engine, ref)


def test_an_image_as_a_mount(engine, leaks):
    text = output(engine, "sh", "-c", "ls /x/bin/busybox; touch /x/new 2>/dev/null || echo read-only", **mount(
        Type="image", Source="busybox"))
    assert text.startswith("/x/bin/busybox") and "read-only" in text.splitlines()[-1]
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", **mount(Type="image", Source="nope")})
    assert (answer.status, answer.message) == (404, "No such image: nope:latest")


def test_a_volume_that_is_a_file_system_of_its_own(engine, leaks):
    volume(engine, "fast", type="tmpfs", device="tmpfs", o="size=4m,uid=1000")
    text = output(engine, "sh", "-c", "grep ' /x ' /proc/mounts; stat -c %u /x", HostConfig={"Binds": ["fast:/x"]})
    assert "tmpfs /x tmpfs rw" in text and "size=4096k" in text and text.splitlines()[-1] == "1000"
    assert "ro," in output(engine, "grep", " /x ", "/proc/mounts", HostConfig={"Binds": ["fast:/x:ro"]})


def test_a_volume_made_with_its_container(engine, tmp_path, leaks):
    (tmp_path / "file").write_text("here\n")
    options = {"DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": str(tmp_path)}},
               "Labels": {"k": "v"}}
    assert output(engine, "cat", "/x/file", **mount(Type="volume", Source="made", VolumeOptions=options)) == "here\n"
    assert engine.api("GET", "/volumes/made").json["Labels"] == {"k": "v"}


@pytest.mark.parametrize(("options", "text"), [
    ({"nope": "1"}, 'invalid option: "nope"'), ({"type": "tmpfs"}, 'missing required option: "device"'),
    ({"device": "/x"}, 'missing required option: "type"'), ({"o": "ro"}, 'missing required option: "device"'),
    ({"size": "1g"}, "quota size requested but no quota support"),
])
def test_volume_options_that_cannot_be(engine, options, text):
    answer = engine.api("POST", "/volumes/create", {"Name": "bad", "DriverOpts": options})
    assert (answer.status, text in answer.message) == (400, True), answer.body


# --- log drivers


def test_json_file_is_the_name_of_the_default(engine):
    ref = engine.create("true")
    assert engine.inspect(ref)["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert engine.api("GET", "/info").json["LoggingDriver"] == "json-file"


@pytest.mark.parametrize(("kind", "options", "text"), [
    ("json-file", {"zzz": "1"}, "unknown log opt 'zzz' for json-file log driver"),
    ("json-file", {"max-size": "abc"}, "invalid size: 'abc'"),
    ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2"),
    ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
    ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
    ("json-file", {"mode": "x"}, "logger: logging mode not supported: x"),
    ("nope", {}, 'error looking up logging plugin nope: plugin "nope" not found'),
])
def test_log_options_are_checked(engine, kind, options, text):
    body = {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": kind, "Config": options}}}
    answer = engine.api("POST", "/containers/create", body)
    assert (answer.status, text in answer.message) == (400, True), answer.body


def test_no_log_for_none(engine):
    ref = engine.run("echo", "hello", HostConfig={"LogConfig": {"Type": "none"}})
    engine.wait(ref)
    answer = engine.api("GET", f"/containers/{ref}/logs?stdout=1")
    assert (answer.status, answer.message) == (501, "configured logging driver does not support reading")


def test_a_limited_log_keeps_its_end(engine, leaks):
    config = {"Type": "local", "Config": {"max-size": "10k", "max-file": "3"}}
    ref = engine.run("seq", "1", "20000", HostConfig={"LogConfig": config})
    engine.wait(ref)
    lines = engine.logs(ref).splitlines()
    assert lines[-1] == "20000" and 100 < len(lines) < 20000
    assert lines[1:] == [str(number) for number in range(int(lines[1]), 20001)]


def test_details_tell_labels_variables_and_tag(engine):
    config = {"Type": "json-file", "Config": {"labels": "a,none", "env-regex": "^V", "tag": "{{.Name}}/{{.ID}}"}}
    ref = engine.run("echo", "x", name="tagged", Labels={"a": "1 2", "b": "no"}, Env=["VAR=y", "W=no"],
                     HostConfig={"LogConfig": config})
    engine.wait(ref)
    body = engine.api("GET", f"/containers/{ref}/logs?stdout=1&details=1").body[8:]
    assert body == f"VAR=y,a=1+2,tag=tagged%2F{ref[:12]} x\n".encode()


def test_the_log_is_whole_once_wait_has_answered(engine):
    for _ in range(10):
        ref = engine.run("seq", "1", "5000")
        engine.wait(ref)
        assert engine.logs(ref).endswith("\n5000\n")


# --- links


def test_a_link_is_a_name_until_it_is_removed(engine):
    engine.run(name="linked-db")
    web = engine.run(name="linked-web", HostConfig={"Links": ["linked-db:db"]})
    hosts = engine.inspect(web)["HostsPath"]
    assert "\tdb " in open(hosts).read()
    names = {row["Names"][0]: row["Names"] for row in engine.api("GET", "/containers/json").json}
    assert names == {"/linked-db": ["/linked-db", "/linked-web/db"], "/linked-web": ["/linked-web"]}
    assert engine.api("DELETE", "/containers/linked-web/db").status == 404
    assert engine.api("DELETE", "/containers/linked-web/db?link=1").status == 204
    assert "\tdb " not in open(hosts).read() and web[:12] in open(hosts).read()
    assert engine.inspect(web)["HostConfig"]["Links"] in (None, [])
    assert all(len(row["Names"]) == 1 for row in engine.api("GET", "/containers/json").json)
    for path, status in (("/containers/linked-web/db?link=1", 404), ("/containers/linked-web?link=1", 409)):
        assert engine.api("DELETE", path).status == status


def test_only_a_shareable_ipc_namespace_is_joined(engine):
    engine.run(name="closed")
    engine.run(name="open", HostConfig={"IpcMode": "shareable"})
    assert "non-shareable IPC" in refused(engine, engine.create("true", HostConfig={"IpcMode": "container:closed"}))
    ref = engine.run("readlink", "/proc/self/ns/ipc", HostConfig={"IpcMode": "container:open"})
    engine.wait(ref)
    assert engine.logs(ref).strip() == os.readlink(f"/proc/{engine.inspect('open')['State']['Pid']}/ns/ipc")
