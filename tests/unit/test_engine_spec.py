"""The runtime spec made of a record: the default posture, and what each option changes."""

import json

import msgspec
import pytest

from corten.base.errors import InvalidArgument
from corten.engine.records import Config, ContainerRecord, Device, ExecRequest, HostConfig, MountPoint, Ulimit
from corten.engine.spec import ALL_CAPABILITIES, Inputs, build_exec_process, build_spec, capabilities
from corten.engine.users import User, resolve_user


def spec_of(config=None, host=None, user=None, **inputs):
    host = host or HostConfig()
    if host.masked_paths is None:
        host.masked_paths = ["/proc/kcore"]
    record = ContainerRecord(
        id="a" * 64, name="x", created_ns=1, image="i", image_id="sha256:0", config=config or Config(hostname="h"),
        host_config=host, path="sh", args=["-c", "x"])
    return json.loads(msgspec.json.encode(build_spec(record, Inputs(rootfs="/b/rootfs", user=user or User(), **inputs))))


def mount(spec, destination):
    return next(m for m in spec["mounts"] if m["destination"] == destination)


def test_default_posture():
    spec = spec_of()
    process, linux = spec["process"], spec["linux"]
    assert len(process["capabilities"]["bounding"]) == 11
    assert {"CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE"}.isdisjoint(process["capabilities"]["bounding"])
    assert "ambient" not in process["capabilities"] and "inheritable" not in process["capabilities"]
    assert {n["type"] for n in linux["namespaces"]} == {"mount", "network", "ipc", "uts", "pid", "cgroup"}
    assert linux["resources"]["pids"] == {"limit": 4096} and linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert linux["sysctl"]["net.ipv4.ping_group_range"] == "0 2147483647"
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO" and linux["seccomp"]["syscalls"]
    assert "ro" in mount(spec, "/sys")["options"] and "ro" in mount(spec, "/sys/fs/cgroup")["options"]
    assert spec["hostname"] == "h" and spec["root"]["readonly"] is False


def test_seccomp_rules_follow_capabilities():
    def names(spec):
        return {n for rule in spec["linux"]["seccomp"]["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]}

    assert "mount" not in names(spec_of()) and "read" in names(spec_of())
    assert "mount" in names(spec_of(host=HostConfig(cap_add=["SYS_ADMIN"])))
    assert "seccomp" not in spec_of(host=HostConfig(security_opt=["seccomp=unconfined"]))["linux"]


def test_privileged():
    spec = spec_of(host=HostConfig(privileged=True), devices=[({"path": "/dev/x", "type": "c", "major": 1, "minor": 2}, "rwm")])
    assert spec["process"]["capabilities"]["bounding"] == list(ALL_CAPABILITIES)
    assert "seccomp" not in spec["linux"] and "maskedPaths" not in spec["linux"]
    assert "rw" in mount(spec, "/sys")["options"] and spec["linux"]["devices"]


@pytest.mark.parametrize(("host", "has", "lacks"), [
    (HostConfig(cap_add=["net_admin"]), "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
    (HostConfig(cap_drop=["ALL"], cap_add=["CAP_KILL"]), "CAP_KILL", "CAP_CHOWN"),
    (HostConfig(cap_add=["ALL"], cap_drop=["CHOWN"]), "CAP_SYS_ADMIN", "CAP_CHOWN"),
])
def test_capabilities(host, has, lacks):
    names = capabilities(host)
    assert has in names and lacks not in names
    assert capabilities(host, frozenset()) == []


def test_unknown_capability():
    with pytest.raises(InvalidArgument, match='invalid CapAdd: unknown capability: "CAP_FOO"'):
        capabilities(HostConfig(cap_add=["FOO"]))


def test_limits():
    host = HostConfig(memory=64 << 20, memory_swap=128 << 20, nano_cpus=500_000_000, cpuset_cpus="0", pids_limit=10,
                      cpu_shares=512, ulimits=[Ulimit(name="nofile", soft=1, hard=-1)], oom_score_adj=5)
    spec = spec_of(host=host)
    resources = spec["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert resources["cpu"] == {"period": 100000, "quota": 50000, "shares": 512, "cpus": "0"}
    assert resources["pids"] == {"limit": 10} and spec["process"]["oomScoreAdj"] == 5
    assert spec["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2**64 - 1}]
    assert spec_of(host=HostConfig(pids_limit=-1))["linux"]["resources"]["pids"] == {"limit": -1}


def test_mounts_come_parents_first_and_ones_own_wins():
    points = [MountPoint(type="bind", source="/s", destination="/a/b/c", rw=False),
              MountPoint(type="volume", name="v", source="/v", destination="/a"),
              MountPoint(type="bind", source="/h", destination="/etc/hosts"),
              MountPoint(type="bind", source="/shm", destination="/dev/shm")]
    spec = spec_of(mounts=points, files=[("/f/hosts", "/etc/hosts"), ("/f/hostname", "/etc/hostname")])
    order = [m["destination"] for m in spec["mounts"]]
    assert order.index("/a") < order.index("/a/b/c") and order.count("/dev/shm") == 1
    assert mount(spec, "/etc/hosts")["source"] == "/h" and mount(spec, "/etc/hostname")["source"] == "/f/hostname"
    assert "ro" in mount(spec, "/a/b/c")["options"] and "nodev" in mount(spec, "/a")["options"]


def test_tmpfs_keeps_its_defaults_unless_told():
    host = HostConfig(tmpfs={"/t": "size=1m,exec", "/u": ""})
    assert mount(spec_of(host=host), "/t")["options"] == ["nosuid", "nodev", "size=1m", "exec"]
    assert mount(spec_of(host=host), "/u")["options"] == ["noexec", "nosuid", "nodev"]


def test_environment():
    env = dict(v.split("=", 1) for v in spec_of(Config(hostname="h", tty=True, env=["A=1", "PATH=/p", "TERM"]))["process"]["env"])
    assert env == {"PATH": "/p", "HOSTNAME": "h", "A": "1", "HOME": "/"}


def test_host_namespaces():
    host = HostConfig(pid_mode="host", uts_mode="host", cgroupns_mode="host")
    spec = spec_of(host=host, network="host", ipc="host", pid="host")
    assert {n["type"] for n in spec["linux"]["namespaces"]} == {"mount"}
    assert "hostname" not in spec and "sysctl" not in spec["linux"]
    path = next(n for n in spec_of(network="/proc/9/ns/net")["linux"]["namespaces"] if n["type"] == "network")
    assert path["path"] == "/proc/9/ns/net"


def test_another_user_has_no_effective_capabilities():
    sets = spec_of(user=User(33, 33, [33, 100]))["process"]["capabilities"]
    assert sets["effective"] == [] and len(sets["bounding"]) == 11


def test_exec_process_of_its_own():
    record = ContainerRecord(id="a" * 64, name="x", created_ns=1, image="i", image_id="s", config=Config(env=["A=1"]),
                             host_config=HostConfig(devices=[Device()]))
    request = ExecRequest(cmd=["ls"], env=["A=2", "B=3"], working_dir="/w", tty=True, user="33")
    process = build_exec_process(record, request, User(33, 33, home="/var/www"), ["CAP_KILL"], [24, 80])
    env = dict(v.split("=", 1) for v in process["env"])
    assert env["A"] == "2" and env["B"] == "3" and env["TERM"] == "xterm" and env["HOME"] == "/var/www"
    assert process["cwd"] == "/w" and process["consoleSize"] == {"height": 24, "width": 80}


# --- users

PASSWD = "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/x\n#c\nbad\n"
GROUP = "root:x:0:\nweb:x:34:\nextra:x:50:other,www\n"


@pytest.fixture
def layers(tmp_path):
    for name in ("top", "low"):
        (tmp_path / name / "etc").mkdir(parents=True)
    (tmp_path / "low/etc/passwd").write_text(PASSWD)
    (tmp_path / "low/etc/group").write_text(GROUP)
    return [str(tmp_path / "top"), str(tmp_path / "low")]


@pytest.mark.parametrize(("text", "expected"), [
    ("", (0, 0, [0], "/root")), ("www", (33, 34, [34, 50], "/var/www")), ("33", (33, 34, [34, 50], "/var/www")),
    ("1234", (1234, 0, [0], "/")), ("www:0", (33, 0, [0], "/var/www")), ("12:34", (12, 34, [34], "/")),
    ("0:web", (0, 34, [34], "/root")),
])
def test_users(layers, text, expected):
    user = resolve_user(text, layers)
    assert (user.uid, user.gid, user.groups, user.home) == expected


@pytest.mark.parametrize(("text", "message"), [
    ("foo", "unable to find user foo: no matching entries in passwd file"),
    ("www:foo", "unable to find group foo: no matching entries in group file"),
    ("9999999999", "uids and gids must be in range"), ("2147483648", "uids and gids must be in range"),
    ("1:4294967296", "uids and gids must be in range"), ("٣", "unable to find user"), ("-1", "uids and gids must be in range"),
])
def test_bad_users(layers, text, message):
    with pytest.raises(InvalidArgument, match=message):
        resolve_user(text, layers)


def test_group_add(layers):
    assert resolve_user("www", layers, ["extra", "77"]).groups == [34, 50, 77]
    with pytest.raises(InvalidArgument, match="unable to find group nope"):
        resolve_user("www", layers, ["nope"])


def test_the_containers_own_passwd_wins(layers, tmp_path):
    (tmp_path / "top/etc/passwd").write_text("new:x:7:8::/n:/x\n")
    assert resolve_user("new", layers).uid == 7
    with pytest.raises(InvalidArgument):
        resolve_user("www", layers)


def test_a_link_in_the_image_does_not_lead_out(layers, tmp_path):
    (tmp_path / "secret").write_text("evil:x:1:1::/:/x\n")
    for target in (str(tmp_path / "secret"), "../../secret", "/proc/self/root" + str(tmp_path / "secret")):
        link = tmp_path / "top/etc/passwd"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(InvalidArgument):
            resolve_user("evil", layers)
