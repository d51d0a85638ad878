"""What a default container may and sees: capabilities, seccomp, hidden paths, descriptors, devices; and images that lie.

Asked from inside, for the first process, for an exec, and for a RUN of a build.
"""

import json
import os
import re
import stat
import threading
import time

import pytest
from build_context import build
from images import busybox_layer, docker_archive, entry, folder, layer, symlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

BITS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
        "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18, "SETFCAP": 31}
MASK = sum(1 << bit for bit in BITS.values())
WAYS = ["run", "exec", "RUN"]


def ask(engine, way, script):
    """The output of a shell script in a default container: its first process, an exec in it, or a RUN."""
    if way == "run":
        done = engine.docker("run", "--rm", "busybox", "sh", "-c", script)
    elif way == "exec":
        container_id = engine.run()
        done = engine.docker("exec", container_id, "sh", "-c", script)
    else:
        text = build(engine, f"FROM busybox\nRUN {script}\n", nocache="1").text
        return text.split("Running in ")[1].partition("\n")[2].split(" ---> ")[0]
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(engine, *words, script, timeout=60):
    """A Python script in a container of this machine's own /usr; what it printed, as JSON."""
    done = engine.docker("run", "--rm", *words, "host", "python3", "-IS", "-c", script, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def canary(tmp_path):
    """A folder of the host that must stay as it is; and nothing of it may be seen."""
    place = tmp_path / "canary"
    (place / "inner").mkdir(parents=True)
    (place / "secret").write_text("the host's\n")
    (place / "null").write_text("the host's\n")
    before = picture(place)
    yield place
    assert picture(place) == before


def picture(place):
    found = {}
    for root, folders, files in os.walk(place):
        for name in [".", *folders, *files]:
            info = os.lstat(f"{root}/{name}")
            found[f"{root}/{name}"] = (info.st_mode, info.st_uid, info.st_mtime_ns, info.st_nlink, info.st_rdev)
            if stat.S_ISREG(info.st_mode):
                with open(f"{root}/{name}") as file:
                    found[f"{root}/{name}"] += (file.read(),)
    return found


# --- who the process is


@pytest.mark.parametrize("way", WAYS)
def test_exactly_eleven_capabilities(engine, way):
    status = dict(line.split(":\t") for line in ask(engine, way, "cat /proc/self/status").splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapBnd", "CapPrm", "CapEff")] == [MASK] * 3
    assert [int(status[name], 16) for name in ("CapInh", "CapAmb")] == [0, 0]
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("0", "2")


def test_a_user_has_none_and_flags_change_them(engine):
    def effective(*words):
        done = engine.docker("run", "--rm", *words, "busybox", "grep", "CapEff", "/proc/self/status")
        return int(done.stdout.split()[1], 16)

    assert effective("-u", "1000") == 0
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "CHOWN") == 1
    assert effective("--cap-add", "NET_RAW") == MASK | 1 << 13
    done = engine.docker("run", "--rm", "--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status")
    assert done.stdout.split() == ["NoNewPrivs:", "1"]


# --- system calls

SYSCALLS = r"""
import ctypes, errno, json, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *words):
    ctypes.set_errno(0)
    value = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(w) if isinstance(w, int) else w for w in words])
    return errno.errorcode.get(ctypes.get_errno(), "?") if value == -1 else "did it"
def int80(number):
    # push rbx; mov eax, number; xor ebx..edi; int 0x80; cdqe; pop rbx; ret
    code = b"\x53\xb8" + number.to_bytes(4, "little") + b"\x31\xdb\x31\xc9\x31\xd2\x31\xf6\x31\xff\xcd\x80\x48\x98\x5b\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    value = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return errno.errorcode.get(-value, "?") if -4096 < value < 0 else "did it"
X32 = 0x40000000
found = {
    "unshare": call(272, 0x10000000), "unshare mount": call(272, 0x20000), "setns": call(308, 0, 0),
    "mount": call(165, b"x", b"/", b"tmpfs", 0, 0), "umount": call(166, b"/tmp", 0), "pivot_root": call(155, b"/", b"/"),
    "keyctl": call(250, 0, 0xfffffffd, 0), "add_key": call(248, b"user", b"x", b"y", 1, 0xfffffffd), "bpf": call(321, 0, 0, 0),
    "perf_event_open": call(298, 0, 0, 0, 0, 0), "kexec_load": call(246, 0, 0, 0, 0), "init_module": call(175, 0, 0, b""),
    "open_by_handle_at": call(304, 0, 0, 0), "userfaultfd": call(323, 0), "io_uring_setup": call(425, 1, 0),
    "clone newuser": call(56, 0x10000011, 0, 0, 0, 0), "clone3": call(435, 0, 0), "personality": call(135, 0x20),
    "vsock": call(41, 40, 1, 0), "vsock with high bits": call(41, 0x100000028, 1, 0),
    "vsock with all high bits": call(41, 0xffffffff00000028, 1, 0),
    "fsopen": call(430, b"tmpfs", 0), "move_mount": call(429, 0, b"", 0, b"", 0), "open_tree": call(428, 0, b"/", 1),
    "mount_setattr": call(442, 0, b"/", 0, 0, 0), "reboot": call(169, 0xfee1dead, 672274793, 0), "swapon": call(167, b"/x", 0),
    "x32 getpid": call(X32 | 39), "x32 unshare": call(X32 | 272, 0x10000000), "x32 mount": call(X32 | 165, b"x", b"/", b"tmpfs", 0, 0),
    "i386 getpid": int80(20), "i386 unshare": int80(310), "i386 mount": int80(21), "i386 keyctl": int80(288), "i386 bpf": int80(357),
    "i386 clone3": int80(435), "getpid": call(39), "socket": call(41, 1, 1, 0), "raw socket": call(41, 2, 3, 1),
    "packet socket": call(41, 17, 3, 0),
}
print(json.dumps(found))
"""
ALLOWED = ("getpid", "socket")


def test_refused_system_calls(engine):
    if os.uname().machine != "x86_64":
        pytest.skip("machine: the numbers are those of x86-64")
    found = python(engine, script=SYSCALLS)
    for name in ALLOWED:
        assert found.pop(name) == "did it", name
    assert found.pop("i386 getpid") in ("did it", "ENOSYS", "EPERM")
    assert found.pop("clone3") == "ENOSYS" and found.pop("i386 clone3") == "ENOSYS"
    assert {name: said for name, said in found.items() if said not in ("EPERM", "ENOSYS", "EAFNOSUPPORT")} == {}
    assert found["vsock"] == found["vsock with high bits"] == found["vsock with all high bits"]


def test_seccomp_is_in_force_for_exec_too(engine):
    container_id = engine.docker("run", "-d", "host", "sleep", "100").stdout.strip()
    done = engine.docker("exec", container_id, "python3", "-IS", "-c", SYSCALLS)
    found = json.loads(done.stdout)
    assert found["unshare"] == found["mount"] == found["keyctl"] == "EPERM"
    assert found["vsock with high bits"] != "did it"


TRACER = """
import json, os, signal
seen = {"power": 0, "environ": 0}
signal.signal(signal.SIGTERM, lambda *_: (print(json.dumps(seen), flush=True), os._exit(0)))
print("looking", flush=True)
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                status = dict(line.split(":", 1) for line in open(f"/proc/{name}/status").read().splitlines())
                seen["power"] |= int(status["CapPrm"], 16) | int(status["CapEff"], 16)
                seen["environ"] = max(seen["environ"], len(open(f"/proc/{name}/environ").read()))
            except OSError:
                pass
"""


def test_execs_under_the_eyes_of_a_tracer(engine):
    """With CAP_SYS_PTRACE all can be seen of an exec on its way in: it has no more than the container by then."""
    made = engine.docker("run", "-d", "--cap-add", "SYS_PTRACE", "-e", "NUMBER=7", "host", "python3", "-IS", "-c", TRACER)
    container_id = made.stdout.strip()
    engine.said(container_id, "looking")
    for number in range(10):
        done = engine.docker("exec", container_id, "sh", "-c", f"echo $NUMBER; exit {number}")
        assert (done.stdout, done.returncode) == ("7\n", number), done.stderr
    assert engine.docker("exec", "-u", "1000:7", container_id, "id").stdout.startswith("uid=1000 gid=7")
    assert engine.docker("exec", container_id, "nosuch").returncode == 127
    assert engine.docker("exec", "-d", container_id, "sleep", "100").returncode == 0
    engine.docker("stop", "-t", "60", container_id)
    seen = json.loads(engine.docker("logs", container_id).stdout.splitlines()[-1])
    assert seen["power"] & ~(MASK | 1 << 19) == 0  # CAP_SYS_PTRACE, linux/capability.h
    assert seen["power"] and seen["environ"] < 200  # what the programs have


def test_a_privileged_or_unconfined_container_is_asked_for(engine):
    done = engine.docker("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "grep", "Seccomp:", "/proc/self/status")
    assert done.stdout.split() == ["Seccomp:", "0"]


# --- what is hidden, what is read-only

LOOK = r"""
for p in PATHS; do
  if [ -d $p ]; then echo "$p d $(ls -A $p | wc -l)"; elif [ -e $p ]; then echo "$p f $(head -c 100 $p 2>/dev/null | wc -c)"; fi
done; echo; for p in READONLY; do [ -e $p ] && echo "$p $(grep -c " $p ro," /proc/self/mountinfo)"; done; true
"""


def check_hidden(text):
    masked, _, read_only = text.partition("\n\n")
    rows = [line.split() for line in masked.splitlines() if line.strip()]
    assert len(rows) >= 4, text
    assert [row for row in rows if row[2] != "0"] == []
    assert [line for line in read_only.splitlines() if line.strip() and line.split()[1] != "1"] == []
    assert "/proc/sys 1" in read_only


def test_hidden_paths_after_run_exec_and_restart(engine):
    container_id = engine.run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    host = engine.inspect(container_id)["HostConfig"]
    assert {"/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/config.gz", "/proc/slabinfo", "/sys/firmware"} <= set(host["MaskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} <= set(host["ReadonlyPaths"])
    script = LOOK.replace("PATHS", " ".join(host["MaskedPaths"])).replace("READONLY", " ".join(host["ReadonlyPaths"])).strip()
    check_hidden(engine.docker("run", "--rm", "busybox", "sh", "-c", script).stdout)
    check_hidden(engine.docker("exec", container_id, "sh", "-c", script).stdout)
    assert engine.docker("restart", "-t", "2", container_id).returncode == 0
    check_hidden(engine.docker("exec", container_id, "sh", "-c", script).stdout)


@pytest.mark.parametrize("way", WAYS)
def test_writes_that_must_fail(engine, way):
    script = ("for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/vm/swappiness /sys/kernel/uevent_helper "
              "/sys/fs/cgroup/release_agent /sys/fs/cgroup/memory/release_agent /proc/1/oom_score_adj_x; "
              "do (echo 1 > $f) 2>/dev/null && echo wrote $f; done; "
              "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x 2>/dev/null && echo made a cgroup; "
              "mount -t tmpfs t /tmp 2>/dev/null && echo mounted; mknod /tmp/sda b 8 0 2>/dev/null && echo mknod; "
              "mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; echo end")
    assert ask(engine, way, script).split("\n")[0] == "end"


@pytest.mark.parametrize("way", WAYS)
def test_mounts_are_read_only_and_without_devices(engine, way):
    table = [line.split() for line in ask(engine, way, "cat /proc/self/mountinfo").splitlines()
             if re.match(r"\d+ \d+ \d+:\d+ ", line)]
    options = {row[4]: row[5].split(",") for row in table}
    assert "ro" in options["/sys"]
    groups = [place for place in options if place.startswith("/sys/fs/cgroup")]
    assert groups and all("ro" in options[place] for place in groups)
    for place in ("/", "/proc", "/sys", "/dev/shm", "/dev/mqueue"):
        assert "nodev" in options[place], place
    assert not [place for place in options if "corten" in place]


# --- descriptors, working folder, devices


@pytest.mark.parametrize("way", WAYS)
def test_no_descriptor_leaks(engine, way):
    text = ask(engine, way, "ls -l /proc/self/fd; echo; ls -l /proc/1/fd")
    rows = re.findall(r" (\d+) -> (\S+)", text)
    assert {number for number, _ in rows} <= {"0", "1", "2", "3"}
    for number, target in rows:
        assert re.match(r"pipe:|/dev/null$|socket:|/dev/pts/\d+$|/proc/\d+/fd$", target), (number, target)
        assert number != "3" or target.endswith("/fd")


def test_no_descriptor_leaks_with_a_terminal(engine):
    container_id = engine.run("sleep", "100", Tty=True, OpenStdin=True)
    rows = re.findall(r" (\d+) -> (\S+)", engine.docker("exec", container_id, "ls", "-l", "/proc/1/fd").stdout)
    assert rows == [("0", "/dev/pts/0"), ("1", "/dev/pts/0"), ("2", "/dev/pts/0")]


@pytest.mark.parametrize("way", WAYS)
def test_the_working_folder_is_inside(engine, way):
    lines = ask(engine, way, "readlink /proc/self/cwd; pwd; ls -id / | cut -c1-20 > /dev/null; stat -c %i / /proc/self/root/.").split()
    assert lines[:2] == ["/", "/"] and lines[2] == lines[3]


def test_working_folders_cannot_be_descriptors(engine):
    for place in ("/proc/self/fd/7", "/proc/self/fd/8/../../..", "/proc/self/fd/3"):
        for words in (("run", "--rm", "-w", place, "busybox"), ("exec", "-w", place, engine.run())):
            done = engine.docker(*words, "sh", "-c", "pwd; ls /proc/self/cwd/var/tmp/ 2>/dev/null; cat ../../../../etc/os-release")
            assert done.returncode != 0, (words, done.stdout)


def test_devices_are_the_harmless_ones(engine):
    plain = {"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
             "urandom", "zero"}
    assert set(ask(engine, "run", "ls /dev").split()) == plain
    assert set(ask(engine, "exec", "ls /dev").split()) == plain
    container_id = engine.run("sleep", "100", Tty=True)
    assert set(engine.docker("exec", container_id, "ls", "/dev").stdout.split()) == plain | {"console"}


def test_kernel_settings_of_its_own(engine):
    assert ask(engine, "run", "cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "2147483647"]
    assert ask(engine, "run", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").split() == ["0"]
    ping = """
import json, socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
sock.settimeout(5)
sock.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\1hello", ("127.0.0.1", 0))
print(json.dumps(sock.recv(100)[-5:].decode()))
"""
    assert python(engine, "-u", "1000", script=ping) == "hello"


def test_the_process_limit_is_4096(engine):
    script = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
    assert ask(engine, "run", script).split() == ["4096"]
    done = engine.docker("run", "--rm", "--pids-limit", "77", "busybox", "sh", "-c", script)
    assert done.stdout.split() == ["77"]


# --- images that lie


def lying_image(engine, canary, links, config=None):
    """An image like busybox with symbolic links to the canary; its name."""
    archive = f"{engine.folder}/lying.tar"
    members = [symlink(name, target.replace("CANARY", str(canary))) for name, target in links.items()]
    default = {"Env": ["PATH=/bin"], "Cmd": ["sh"], **(config or {})}
    docker_archive(archive, [busybox_layer(), layer(members)], ["lying:latest"], default)
    with open(archive, "rb") as file:
        answer = engine.api("POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
    os.unlink(archive)
    assert answer.status == 200, answer.body
    return "lying"


LINKS = {
    "dev": {"dev": "CANARY"}, "proc": {"proc": "CANARY"}, "sys": {"sys": "CANARY"}, "etc": {"etc": "CANARY"},
    "null": {"dev/null": "CANARY/null"}, "pts": {"dev/pts": "CANARY/inner"}, "console": {"dev/console": "CANARY/new"},
    "hosts": {"etc/hosts": "CANARY/secret", "etc/hostname": "CANARY/new", "etc/resolv.conf": "CANARY/secret"},
    "passwd": {"etc/passwd": "CANARY/secret", "etc/group": "CANARY/secret"},
    "climbing": {"etc/hosts": "../../../../../..CANARY/secret", "dev/shm": "../../../../..CANARY/inner"},
    "tmp": {"tmp": "CANARY"}, "loop": {"etc/hosts": "hosts", "dev/null": "null"}, "by proc": {"etc/hosts": "/proc/1/root/CANARY/secret"},
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_of_the_image_do_not_reach_the_host(engine, canary, kind):
    image = lying_image(engine, canary, LINKS[kind])
    for words in (("run", "--rm"), ("run", "--rm", "-t"), ("run", "--rm", "--tmpfs", "/tmp/x"), ("run", "--rm", "-w", "/tmp/deep"),
                  ("run", "--rm", "-v", "/dev/null:/etc/hosts/x"), ("run", "--rm", "-u", "root")):
        done = engine.docker(*words, image, "sh", "-c", f"cat /etc/hosts /etc/passwd {canary}/secret; echo x > /dev/null; echo y > /etc/hosts; true")
        assert "the host's" not in done.stdout + done.stderr, (words, done.stdout)
    container_id = engine.create(Image=image)
    engine.docker("start", container_id)
    engine.docker("exec", container_id, "sh", "-c", "echo x > /etc/hosts; echo y > /dev/null")
    copied = engine.docker("cp", f"{container_id}:/etc/hosts", "-")
    assert "the host's" not in copied.stdout
    engine.docker("cp", "/etc/hostname", f"{container_id}:/etc/hosts")
    engine.docker("cp", "/etc/hostname", f"{container_id}:/tmp/new")
    engine.docker("rm", "-f", container_id)


def test_working_folder_and_volume_through_links(engine, canary):
    config = {"WorkingDir": "/work/sub", "Volumes": {"/vol": {}, "/vol2/inner": {}}}
    links = {"work": "CANARY", "vol": "CANARY", "vol2": "../..CANARY"}
    image = lying_image(engine, canary, links, config)
    done = engine.docker("run", "--rm", image, "sh", "-c", "pwd; touch new; ls -R /vol/ /vol2/; cat /vol/secret; touch /vol/new /vol2/inner/new")
    assert "the host's" not in done.stdout and "secret" not in done.stdout
    done = build(engine, f"FROM {image}\nRUN touch /work/new /vol/new; echo done\nCOPY a.txt /work/new\nADD a.txt /vol/\n", nocache="1")
    assert "the host's" not in done.text


def test_device_nodes_of_an_image_do_not_open(engine, canary):
    nodes = [entry("dev/mem", type=b"3", dev=(1, 1)), entry("disk", type=b"4", dev=(254, 0), mode=0o666), folder("x")]
    archive = f"{engine.folder}/nodes.tar"
    docker_archive(archive, [busybox_layer(), layer(nodes)], ["nodes:latest"])
    with open(archive, "rb") as file:
        engine.api("POST", "/images/load", file.read(), headers={"Content-Type": "application/x-tar"})
    done = engine.docker("run", "--rm", "nodes", "sh", "-c", "head -c 10 /disk && echo read")
    assert "read" not in done.stdout


# --- neighbours


BOMB = """
import json, os, time
made = refused = 0
for _ in range(5000):
    try:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        made += 1
    except BlockingIOError:
        refused += 1
print(json.dumps([made, refused]), flush=True)
time.sleep(1000)
"""


def test_a_fork_bomb_is_bounded_and_a_neighbour_lives(engine):
    neighbour = engine.run()
    bomb = engine.docker("run", "-d", "--pids-limit", "200", "host", "python3", "-IS", "-c", BOMB).stdout.strip()
    deadline = time.monotonic() + 90
    while not engine.logs(bomb) and time.monotonic() < deadline:
        began = time.monotonic()
        assert engine.docker("exec", neighbour, "echo", "alive").stdout == "alive\n"
        assert time.monotonic() - began < 20
    made, refused = json.loads(engine.logs(bomb))
    assert made < 200 and made + refused == 5000
    assert engine.inspect(bomb)["State"]["Running"]
    began = time.monotonic()
    assert engine.docker("kill", bomb).returncode == 0
    assert engine.wait(bomb) == 137 and time.monotonic() - began < 30
    assert engine.docker("exec", neighbour, "echo", "alive").stdout == "alive\n"


def test_a_log_flood_does_not_hurt_another(engine):
    quiet = engine.run("sh", "-c", "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; sleep 100")
    flood = engine.run("sh", "-c", f"yes {'0123456789' * 10} | head -c 101000000")
    slowest = 0.0
    for _ in range(4):
        began = time.monotonic()
        assert engine.docker("exec", quiet, "echo", "alive").stdout == "alive\n"
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.2)
    assert slowest < 20
    engine.said(quiet, "line 19\n")
    assert engine.logs(quiet).split("\n")[:-1] == [f"line {i}" for i in range(20)]
    assert engine.wait(flood) == 0
    assert engine.docker("logs", "--tail", "1", flood).stdout == "0123456789" * 10 + "\n"


def test_a_reader_that_stops_does_not_stop_the_container(engine):
    writer = engine.run("sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i of many; i=$((i+1)); done; echo end")
    import socket
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.connect(engine.socket)
        stopped.sendall(f"POST /containers/{writer}/attach?stream=1&stdout=1&logs=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        ended = threading.Event()
        thread = threading.Thread(target=lambda: (engine.wait(writer), ended.set()))
        thread.start()
        assert ended.wait(30)
        thread.join()
    assert engine.logs(writer).endswith("line 19999 of many\nend\n")
