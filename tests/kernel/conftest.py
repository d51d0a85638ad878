"""What the tests of the zygote begin with: roots of their own, and a root file system."""

import os

import pytest

from corten.base.paths import Layout


@pytest.fixture
def layout(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("machine: needs root")
    made = Layout(str(tmp_path / "data"), str(tmp_path / "run"))
    made.make()
    return made


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "image"
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(open("/bin/busybox", "rb").read())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "sleep", "cat", "echo", "true", "seq", "stty", "ls", "kill", "env", "test", "tty"):
        (root / "bin" / name).symlink_to("busybox")
    return root
