"""Other engines with corten-oci in runc's place: podman, containerd's ctr, dockerd. Each in namespaces of its own."""

import os
import shutil
import subprocess
import tempfile
import textwrap

import pytest
from images import busybox_archive

from corten.linux import cgroup

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUNTIME = f"{ROOT}/corten-oci"
ISOLATED = ("unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def caller():
    """`run(script)`: a shell script with $D (a folder), $NAME (a word of its own) and $RUNTIME; gives its output."""
    if os.geteuid() != 0:
        pytest.skip("machine: needs root")
    folder = tempfile.mkdtemp(prefix="corten-callers-", dir="/var/tmp")
    name = os.path.basename(folder)
    busybox_archive(f"{folder}/image.tar", names=["busybox:latest"])

    def run(script):
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder,
                       "D": folder, "NAME": name, "RUNTIME": RUNTIME, "LC_ALL": "C.UTF-8"}
        with open(f"{folder}/log", "wb") as log:
            done = subprocess.run([*ISOLATED, "sh", "-eu", "-c", textwrap.dedent(script)], stdout=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, stderr=log, text=True, env=environment, timeout=280)
        with open(f"{folder}/log", encoding="utf-8", errors="replace") as log:
            tail = log.read()[-4000:]
        assert done.returncode == 0, f"{done.stdout}\n{tail}"
        return done.stdout.splitlines()

    yield run
    cgroup.remove(f"/{name}")
    shutil.rmtree(folder)


def test_podman(caller):
    found = caller("""
        ip link set lo up
        mkdir -p /run/libpod "$D/run" "$D/tmp"
        podman() {
            command podman --root "$D/root" --runroot "$D/run" --tmpdir "$D/tmp" --storage-driver vfs \\
                --cgroup-manager cgroupfs --events-backend none --runtime "$RUNTIME" "$@"
        }
        podman load -q -i "$D/image.tar" >&2
        podman run --rm --network none --cgroup-parent "/$NAME" busybox echo hello
        podman run --rm --network none --cgroup-parent "/$NAME" busybox sh -c 'exit 7' || echo "status $?"
        podman run --rm --network none --cgroup-parent "/$NAME" busybox nosuch || echo "status $?"
        podman run -d --name c --network none --cgroup-parent "/$NAME" --pids-limit 20 busybox \\
            sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' >&2
        podman exec c sh -c 'echo inside; exit 5' || echo "status $?"
        podman exec --user 1000:1000 --workdir /tmp c sh -c 'id -u; pwd'
        podman pause c >&2 && podman inspect c --format '{{.State.Status}}' && podman unpause c >&2
        podman stop -t 20 c >&2
        podman inspect c --format '{{.State.Status}} {{.State.ExitCode}}'
        podman rm c >&2
        podman ps -aq
    """)
    assert found == ["hello", "status 7", "status 127", "inside", "status 5", "1000", "/tmp", "paused", "exited 9"]


def test_containerd(caller):
    found = caller("""
        printf 'version = 2\\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\\n' > "$D/config.toml"
        mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd
        containerd -c "$D/config.toml" --root "$D/root" --state "$D/run" --address "$D/sock" >&2 &
        ctr() { command ctr -a "$D/sock" -n "$NAME" "$@"; }
        until ctr version >/dev/null 2>&1; do sleep 0.1; done
        ctr images import --snapshotter native "$D/image.tar" >&2
        image=docker.io/library/busybox:latest
        run="run --snapshotter native --runc-binary $RUNTIME"
        ctr $run --rm "$image" a echo hello
        ctr $run --rm "$image" b sh -c 'exit 7' || echo "status $?"
        ctr $run -d "$image" c sleep 1000 >&2
        ctr task exec --exec-id e c sh -c 'echo inside; exit 5' || echo "status $?"
        ctr task pause c && ctr task ls | grep -o PAUSED && ctr task resume c
        ctr task metrics c | grep -c memory >&2
        ctr task kill -s SIGKILL c
        until ctr task ls | grep -q STOPPED; do sleep 0.1; done
        ctr task delete c >&2
        ctr container delete c
        ctr container ls -q
    """)
    assert found == ["hello", "status 7", "inside", "status 5", "PAUSED"]


def test_dockerd(caller):
    found = caller("""
        ip link set lo up
        mkdir -p /run/docker && mount -t tmpfs tmpfs /run/docker
        export PATH="/usr/local/lib/corten-callers:$PATH"
        echo "{}" > "$D/daemon.json"
        dockerd --add-runtime corten="$RUNTIME" --default-runtime corten -H "unix://$D/sock" --data-root "$D/root" \\
            --exec-root "$D/run" --pidfile "$D/pid" --bridge none --iptables=false --storage-driver vfs \\
            --cgroup-parent "/$NAME" --config-file "$D/daemon.json" >&2 &
        docker() { command docker -H "unix://$D/sock" "$@"; }
        until docker version >/dev/null 2>&1; do sleep 0.1; done
        docker info --format '{{.DefaultRuntime}}'
        docker load -q -i "$D/image.tar" >&2
        docker run --rm --network none busybox echo hello
        docker run --rm --network none busybox sh -c 'exit 7' || echo "status $?"
        docker run --rm --network none busybox nosuch || echo "status $?"
        docker run -d --name cc --network none --pids-limit 20 busybox \\
            sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' >&2
        docker exec cc sh -c 'echo inside; exit 5' || echo "status $?"
        docker update --memory 64m --memory-swap 64m cc >&2
        docker pause cc >&2 && docker inspect cc --format '{{.State.Status}}' && docker unpause cc >&2
        docker stop -t 20 cc >&2
        docker inspect cc --format '{{.State.Status}} {{.State.ExitCode}}'
        docker rm cc >&2
        docker ps -aq
    """)
    assert found == ["corten", "hello", "status 7", "status 127", "inside", "status 5", "paused", "exited 9"]
