"""docker buildx builds for several platforms at once: one index, right arguments, emulators that are there or not."""

import json
import os
import subprocess
import sys

import pytest
from registry_server import running_registry

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../src"))
from corten.linux import binfmt

TEXT = ("FROM --platform=$BUILDPLATFORM busybox AS tool\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT BUILDPLATFORM\n"
        "RUN echo $TARGETPLATFORM $TARGETARCH-$TARGETVARIANT $BUILDPLATFORM >/made\n"
        "FROM scratch\nARG TARGETPLATFORM\nCOPY --from=tool /made /made\nLABEL for=$TARGETPLATFORM\n")


@pytest.fixture
def alone(client):
    """Attestations are test_buildx_attest.py's."""
    client.environment["BUILDX_NO_DEFAULT_ATTESTATIONS"] = "1"
    return client


def foreign():
    """An architecture whose programs do not run here."""
    entries = binfmt.interpreters()
    found = [name for name in ("loong64", "mips64", "s390x", "ppc64le") if binfmt.interpreted(name, entries) is None]
    if not found:
        pytest.skip("machine: emulators for all architectures are registered")
    return found[0]


def test_an_index_with_each_platforms_image(alone):
    with running_registry() as registry:
        told = alone.build(TEXT, "--platform", "linux/amd64,linux/arm64,linux/arm/v7", "-t", f"{registry.host}/a/b:1", "--push")
        assert "[linux/arm/v7 stage-1 2/2] COPY" in told and "[linux/amd64 tool" in told
        index, _ = registry.get_manifest("a/b", "1")
        found, configs = {}, []
        for entry in index["manifests"]:
            manifest, _ = registry.get_manifest("a/b", entry["digest"])
            config = json.loads(registry.get_blob("a/b", manifest["config"]["digest"]))
            configs.append(manifest["config"]["digest"])
            platform = "/".join(entry["platform"][key] for key in ("os", "architecture", "variant") if key in entry["platform"])
            assert (config["architecture"], config.get("variant")) == (entry["platform"]["architecture"], entry["platform"].get("variant"))
            found[platform] = config["config"]["Labels"]["for"]
        assert found == {name: name for name in ("linux/amd64", "linux/arm64", "linux/arm/v7")}
        assert alone.engine.docker("push", f"{registry.host}/a/b:1").returncode == 0  # with all its platforms again
        assert registry.get_manifest("a/b", "1")[0] == index
        shown = alone.engine.docker("images", "-q", "--no-trunc").stdout.split()
        assert [digest in shown for digest in configs] == [True, False, False]  # the other platforms' are the index's
        image = alone.engine.api("GET", f"/images/{registry.host}/a/b:1/json").json
        assert image["Architecture"] == "amd64"


def test_files_of_each_platform_in_a_folder_of_its_own(alone, tmp_path):
    flags = ("--platform", "linux/amd64,linux/arm/v7")
    alone.build(TEXT, *flags, "-o", f"type=local,dest={tmp_path}/out", "-o", f"type=tar,dest={tmp_path}/out.tar")
    assert (tmp_path / "out/linux_amd64/made").read_text().split()[:2] == ["linux/amd64", "amd64-"]
    assert (tmp_path / "out/linux_arm_v7/made").read_text().split() == ["linux/arm/v7", "arm-v7", "linux/amd64"]
    names = subprocess.run(["tar", "tf", tmp_path / "out.tar"], capture_output=True, text=True, check=True).stdout.split()
    assert names == ["linux_amd64/", "linux_amd64/made", "linux_arm_v7/", "linux_arm_v7/made"]


def test_a_base_of_another_platform_is_found_here_and_at_the_registry(alone):
    """The name goes on meaning this machine's image."""
    with running_registry() as registry:
        name = f"{registry.host}/base/all:1"
        alone.build(TEXT, "--platform", "linux/amd64,linux/arm64", "-t", name, "--push")
        before = alone.engine.api("GET", f"/images/{name}/json").json["Id"]
        base = f"FROM {name}\nCOPY data /more\n"
        alone.write(data="x")
        for left in ("here", "there"):
            alone.build(base, "--platform", "linux/arm64", "-t", f"on:{left}", "--no-cache")
            image = alone.engine.api("GET", f"/images/on:{left}/json").json
            assert image["Architecture"] == "arm64" and image["Config"]["Labels"]["for"] == "linux/arm64"
            if left == "here":
                assert alone.engine.api("GET", f"/images/{name}/json").json["Id"] == before
                alone.engine.docker("rmi", "-f", "on:here", name)
        told = alone.build(base, "--platform", "linux/s390x", code=1)
        assert "no matching manifest for linux/s390x" in told
    told = alone.build("FROM busybox\n", "--platform", "linux/s390x", code=1)
    assert "the image here is one for linux/amd64, and none for linux/s390x can be had" in told


def test_a_step_that_needs_an_emulator_says_so(alone):
    alone.write(sh=binfmt.header(foreign()).decode("latin-1"))
    platform = f"linux/{foreign()}"
    told = alone.build('FROM scratch\nCOPY sh /bin/sh\nRUN ["/bin/sh"]\n', "--platform", platform, code=1)
    assert f"a program of {platform} cannot run on this linux/amd64 machine" in told and "binfmt_misc" in told
    listed = subprocess.run([alone.plugin, "ls"], env=alone.environment, capture_output=True, text=True, check=True).stdout
    assert "linux/amd64" in listed and platform not in listed


def test_programs_of_386_run(alone):
    if not binfmt.runs_386():
        pytest.skip("machine: the kernel runs no programs of 32-bit x86")
    (alone.context / "sh").write_bytes(binfmt.program_386())
    alone.build('FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN ["/bin/sh"]\n', "--platform", "linux/386", "-t", "small")
    assert alone.engine.api("GET", "/images/small/json").json["Architecture"] == "386"


@pytest.fixture
def emulator(tmp_path):
    """Programs of a foreign architecture run by a busybox that takes their name for its applet's."""
    architecture, name = foreign(), f"corten-test-{os.getpid()}"
    text = "".join(f"\\x{byte:02x}" for byte in binfmt.header(architecture))
    place = "/proc/sys/fs/binfmt_misc"
    (tmp_path / "line").write_text(f":{name}:M::{text}::/bin/busybox:F\n")
    program = (f"mount -t binfmt_misc none {place} && cat {tmp_path}/line >{place}/register && echo ready && read end; "
               f"echo -1 >{place}/{name}")  # what is registered goes with the last mount
    with subprocess.Popen(["unshare", "-m", "sh", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as holder:
        if holder.stdout.readline() != "ready\n":
            pytest.skip("machine: nothing can be registered with binfmt_misc")
        yield architecture
        holder.communicate("end\n")


def test_programs_run_by_an_emulator(alone, emulator):
    (alone.context / "sh").write_bytes(binfmt.header(emulator) + bytes(200))
    platform = f"linux/{emulator}"
    alone.build("FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN echo done >/made\n", "--platform", platform, "-t", "emulated")
    listed = subprocess.run([alone.plugin, "ls"], env=alone.environment, capture_output=True, text=True, check=True).stdout
    assert platform in listed
    alone.build("FROM scratch\nCOPY --from=emulated /made /\n", "--platform", platform, "-o", f"type=local,dest={alone.context}/out")
    assert (alone.context / "out/made").read_text() == "done\n"
