"""Images and neighbours that lie in wait for the runtime: links at every place it touches, targets that are swapped."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runtime_box import read_console

from corten.linux import fd
from corten.runtime import program
from corten.runtime.exec import may_be_traced

SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
first, second = (os.fsencode(name) for name in sys.argv[1:3])
print("swapping", flush=True)
while os.getppid() != 1:
    libc.renameat2(-100, first, -100, second, 2)  # RENAME_EXCHANGE
"""


def tree(folder):
    """Every entry below a folder with what would show a change."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            state = os.lstat(f"{place}/{name}")
            found[f"{place}/{name}"] = (state.st_mode, state.st_uid, state.st_size, state.st_mtime_ns)
    return found


@pytest.fixture
def canary(boxes):
    folder = f"{boxes.folder}/canary"
    os.makedirs(f"{folder}/etc")
    Path(folder, "etc/passwd").write_text("unchanged\n")
    Path(folder, "null").write_text("unchanged\n")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


def replace(boxes, name, target):
    place = f"{boxes.lower}/{name}"
    if os.path.isdir(place) and not os.path.islink(place):
        os.rmdir(place)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.symlink(target, place)


@pytest.mark.parametrize("way", ["init", "exec"])
def test_nothing_is_imported_from_the_image(boxes, monkeypatch, way):
    """Past the pivot the paths of modules lead into the image: a late import would run what lies there, as root."""
    os.makedirs(f"{boxes.lower}/trap")
    Path(boxes.lower, "trap/corten_trap.py").write_text("open('/tmp/sprung', 'w').close()\n")
    read, write = os.pipe()
    child, bundle = boxes.start(boxes.spec("sleep", "100"), write, plain=True)
    os.close(write)

    def late(_program):
        import corten_trap  # noqa: F401

    monkeypatch.setattr(sys, "path", ["/trap", *sys.path])
    monkeypatch.setattr(program, "add_home", late)
    result = boxes.run("true", plain=True) if way == "init" else boxes.exec(child, bundle, "true")
    assert "No module named 'corten_trap'" in str(result.failure)
    assert not [found for _, _, files in os.walk(boxes.folder) for found in files if found == "sprung"]
    os.kill(child.pid, 9)
    boxes.finish(child, read, bundle)


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_are_no_links(boxes, canary, name):
    replace(boxes, name, canary)
    result = boxes.run("true")
    assert "must be mounted on ordinary directory" in str(result.failure)


@pytest.mark.parametrize("name", ["dev", "dev/pts", "dev/null", "dev/console", "dev/ptmx", "dev/fd", "etc/target"])
def test_links_where_the_runtime_writes(boxes, canary, name):
    """Without a /dev of the container's own: nodes, links, console and a mount go into the image's folders."""
    replace(boxes, name, f"{'../' * 12}{canary}/{'null' if name.endswith('null') else 'etc'}")

    def change(spec):
        spec["mounts"] = [one for one in spec["mounts"] if one["destination"] not in ("/dev", "/dev/pts")]
        spec["mounts"].append({"destination": "/etc/target/deep", "type": "tmpfs", "source": "tmpfs"})

    boxes.run("sh", "-c", "echo x > /dev/null; echo y > /etc/target/deep/file", change=change)


def test_the_console_is_the_terminal_itself(boxes, canary):
    for name in ("dev/console", "dev/ptmx", "dev/tty"):
        replace(boxes, name, f"{canary}/etc/passwd")

    def change(spec):
        spec["mounts"] = [one for one in spec["mounts"] if one["destination"] != "/dev"]
        spec["mounts"].insert(1, {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                                  "options": ["newinstance", "ptmxmode=0666"]})

    spec = boxes.spec("sh", "-c", "stat -c '%F' /proc/self/fd/0 -L; tty; echo end", terminal=True)
    change(spec)
    child, _ = boxes.start(spec)
    assert child.failure is None, child.failure
    text = read_console(child, "end", 60)
    assert "character special file" in text and "/dev/" in text.splitlines()[1]
    os.close(child.console)


def test_a_terminal_is_of_a_devpts_alone(boxes):
    """A folder of the image at /dev/pts, with a ptmx of its own making, gives no terminal."""
    os.makedirs(f"{boxes.lower}/dev/pts", exist_ok=True)
    Path(boxes.lower, "dev/pts/ptmx").write_text("mine\n")
    spec = boxes.spec("true", terminal=True)
    spec["mounts"] = [one for one in spec["mounts"] if not one["destination"].startswith("/dev")]
    child, _ = boxes.start(spec)
    assert str(child.failure) == "open the console: /dev/pts is not a devpts"
    assert Path(boxes.lower, "dev/pts/ptmx").read_text() == "mine\n"


def test_a_write_to_proc_is_proven_to_be_one(tmp_path):
    """What lies over a file of /proc is not written to (CVE-2025-52881)."""
    (tmp_path / "oom_score_adj").write_text("mine\n")
    folder = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(OSError, match="not a file of procfs"):
            fd.write_proc(folder, "oom_score_adj", b"0")
    finally:
        os.close(folder)
    assert (tmp_path / "oom_score_adj").read_text() == "mine\n"


def test_a_kernel_setting_goes_to_the_kernel(boxes):
    """The image's /proc is made up: what is written is the kernel's, and the file in the image stays as it is."""
    lie = f"{boxes.lower}/proc"
    for name in ("sys/net/ipv4", "self/attr"):
        os.makedirs(f"{lie}/{name}")
    for name in ("sys/net/ipv4/ip_forward", "self/oom_score_adj", "self/attr/exec"):
        Path(lie, name).write_text("lie\n")

    def change(spec):
        spec["mounts"] = [{"destination": "/real", "type": "proc", "source": "proc"},
                          *(one for one in spec["mounts"] if one["destination"] != "/proc")]
        spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        spec["process"]["oomScoreAdj"] = 100
        spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []

    result = boxes.run("cat", "/real/sys/net/ipv4/ip_forward", "/real/self/oom_score_adj", change=change)
    assert (result.output, result.failure) == ("1\n100\n", None)
    assert Path(lie, "sys/net/ipv4/ip_forward").read_text() == "lie\n"
    assert Path(lie, "self/oom_score_adj").read_text() == "lie\n"


@pytest.mark.parametrize(("destination", "options", "text"), [
    ("/proc", ["bind"], "not of type proc"), ("/proc/self/attr", ["bind"], "inside /proc"),
    ("/proc/../proc/sys", ["bind"], "inside /proc"), ("/etc/way", ["bind"], "inside /proc"),
    ("/proc/self", ["bind", "dest-nofollow"], "inside /proc"),
])
def test_nothing_is_made_up_in_proc(boxes, destination, options, text):
    os.symlink("/proc/sys/kernel", f"{boxes.lower}/etc/way")
    result = boxes.run("true", change=lambda spec: spec["mounts"].append(
        {"destination": destination, "type": "bind", "source": "/etc", "options": options}))
    assert text in str(result.failure)


def test_files_that_lxcfs_stands_in_for(boxes):
    result = boxes.run("cat", "/proc/uptime", change=lambda spec: spec["mounts"].append(
        {"destination": "/proc/uptime", "type": "bind", "source": "/etc/hostname", "options": ["bind"]}))
    assert result.output == open("/etc/hostname").read()


def test_targets_that_are_swapped_all_the_time(boxes, canary):
    """A folder of a volume changes places with a link to the outside, while containers are mounted on it."""
    volume = f"{boxes.folder}/volume"
    os.makedirs(f"{volume}/target")
    os.symlink(f"{'../' * 12}{canary}/etc", f"{volume}/link")
    attacker = subprocess.Popen([sys.executable, "-c", SWAPPER, f"{volume}/target", f"{volume}/link"],
                                stdout=subprocess.PIPE, text=True)
    attacker.stdout.readline()

    def change(spec):
        spec["mounts"] += [
            {"destination": "/volume", "type": "bind", "source": volume, "options": ["bind"]},
            {"destination": "/volume/target/a", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/volume/target", "type": "bind", "source": boxes.lower, "options": ["bind", "ro"]},
        ]
        spec["linux"]["devices"] = [{"path": "/volume/target/node", "type": "c", "major": 1, "minor": 3}]
        spec["linux"]["readonlyPaths"] = ["/volume/target"]
        spec["linux"]["maskedPaths"] = ["/volume/target"]

    try:
        for _ in range(500):
            boxes.run("true", change=change)
    finally:
        attacker.kill()
        attacker.wait()
        attacker.stdout.close()
    assert os.listdir(f"{canary}/etc") == ["passwd"]


WITHOUT_NULL = """
import os, sys
from corten.linux import mount, namespaces
from runtime_box import Boxes
namespaces.unshare(namespaces.CLONE_NEWNS)
mount.set_propagation("/", mount.MS_PRIVATE, True)
boxes = Boxes()
try:
    place = f"{boxes.folder}/not-null"
    open(place, "w").close()
    tree = mount.copy_tree(place, recursive=False)
    target = os.open("/dev/null", os.O_PATH)
    mount.attach(tree, target)
    spec = boxes.spec("true")
    spec["linux"]["maskedPaths"] = ["/etc/passwd"]
    print(boxes.run(spec=spec).failure)
finally:
    boxes.close()
"""


def test_masks_are_made_of_the_null_device_alone():
    if os.geteuid() != 0 or not os.path.exists("/bin/busybox"):
        pytest.skip("machine: needs root and a static busybox")
    folder = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, *sys.path))}
    found = subprocess.run([sys.executable, "-c", WITHOUT_NULL], capture_output=True, text=True, env=environment,
                           check=False)
    assert "mask paths: open_tree /dev/null" in found.stdout, found.stderr


@pytest.mark.parametrize("lie", ["/etc/passwd", "../../../../../../dev/zero"])
def test_the_images_null_device_masks_nothing(boxes, lie):
    replace(boxes, "dev/null", lie)

    def change(spec):
        spec["mounts"] = [one for one in spec["mounts"] if not one["destination"].startswith("/dev")]
        spec["linux"]["maskedPaths"] = ["/etc/passwd"]

    result = boxes.run("stat", "-c", "%t:%T", "/etc/passwd", change=change)
    assert result.output == "1:3\n"


def test_the_hosts_devices_never_change(boxes):
    names = ("null", "zero", "full", "random", "urandom", "tty")
    before = [os.stat(f"/dev/{name}") for name in names]

    def change(spec):
        spec["process"]["user"] = {"uid": 1000, "gid": 1000}
        spec["linux"]["devices"] = [{"path": f"/dev/{name}", "type": "c", "major": os.major(state.st_rdev),
                                     "minor": os.minor(state.st_rdev), "fileMode": 0o600, "uid": 7, "gid": 7}
                                    for name, state in zip(names, before, strict=True)]

    null = os.open("/dev/null", os.O_RDWR)
    try:
        spec = boxes.spec("true")
        change(spec)
        child, _ = boxes.start(spec, output=null)
        assert child.failure is None, child.failure
    finally:
        os.close(null)
    after = [os.stat(f"/dev/{name}") for name in names]
    assert [(one.st_mode, one.st_uid, one.st_gid, one.st_ctime_ns) for one in before] == [
        (one.st_mode, one.st_uid, one.st_gid, one.st_ctime_ns) for one in after]


@pytest.mark.parametrize("tracer", [False, True])
def test_an_exec_of_the_runtime_cannot_be_looked_into(boxes, tracer):
    """A container's root watches for new processes and tries to open their memory; none but its own lets it.

    With CAP_SYS_PTRACE that holds in a user namespace of its own.
    """
    watcher = ("while :; do for p in /proc/[0-9]*; do head -c 1 $p/environ >/dev/null 2>&1 && "
               "grep -q python $p/maps 2>/dev/null && echo SEEN $p; done; done")
    spec = boxes.spec("sh", "-c", watcher)
    if tracer:
        spec["linux"]["namespaces"].append({"type": "user"})
        for kind in ("bounding", "permitted", "effective"):
            spec["process"]["capabilities"][kind] = ["CAP_SYS_PTRACE", "CAP_KILL"]
    read, write = os.pipe()
    child, bundle = boxes.start(spec, write, plain=True)
    os.close(write)
    assert child.failure is None, child.failure
    try:
        for _ in range(20):
            assert boxes.exec(child, bundle, "true").code == 0
    finally:
        os.kill(child.pid, 9)
    deadline = time.monotonic() + 60
    text = b""
    while time.monotonic() < deadline and (part := os.read(read, 65536)):
        text += part
    os.close(read)
    assert b"SEEN" not in text


@pytest.mark.parametrize(("capabilities", "kinds", "may"), [
    (["CAP_KILL"], {"pid": None}, False), (["CAP_SYS_PTRACE"], {"pid": None}, True),
    (["CAP_SYS_PTRACE"], {"pid": None, "user": None}, False), (["CAP_KILL"], {"pid": "/proc/1/ns/pid"}, True),
])
def test_where_an_exec_could_be_traced(capabilities, kinds, may):
    spec = {"process": {"capabilities": {"bounding": capabilities}},
            "linux": {"namespaces": [{"type": kind, "path": path} for kind, path in kinds.items()]}}
    assert may_be_traced(spec) is may
