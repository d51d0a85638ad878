"""What docker buildx build makes of an image: archives, folders, layouts, several at once, names, annotations."""

import json
import subprocess
import tarfile

import pytest
from registry_server import running_registry

TEXT = "FROM scratch AS files\nCOPY data /folder/data\nCOPY --chmod=755 data /tool\n"


@pytest.fixture
def files(client):
    client.write(data="one\n")
    return client


def layout(read):
    """The manifest of an OCI layout, its config, and its descriptor, out of read(path)."""
    described = json.loads(read("index.json"))["manifests"][0]
    manifest = json.loads(read(f"blobs/sha256/{described['digest'][7:]}"))
    return described, manifest, json.loads(read(f"blobs/sha256/{manifest['config']['digest'][7:]}"))


def test_a_folder_and_a_tar_of_the_files(files, tmp_path):
    files.build(TEXT, "-o", f"type=local,dest={tmp_path}/out", "-o", f"type=tar,dest={tmp_path}/out.tar")
    assert (tmp_path / "out/folder/data").read_text() == "one\n"
    assert (tmp_path / "out/tool").stat().st_mode & 0o777 == 0o755
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert {entry.name for entry in tar} >= {"folder", "folder/data", "tool"}


def test_a_file_to_standard_output(files):
    (files.context / "Dockerfile").write_text(TEXT)
    done = subprocess.run([files.plugin, "build", "-o", "-", files.context], env=files.environment,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=110, check=True)
    assert b"folder/data" in done.stdout


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_archive_is_a_layout_and_can_be_loaded(files, tmp_path, kind):
    files.build(TEXT, "-t", "sent:1", "-o", f"type={kind},dest={tmp_path}/image.tar", "--annotation", "a.b=c",
                "--metadata-file", tmp_path / "meta")
    with tarfile.open(tmp_path / "image.tar") as tar:
        described, manifest, config = layout(lambda path: tar.extractfile(path).read())
    assert manifest["annotations"] == {"a.b": "c"} and len(config["rootfs"]["diff_ids"]) == 2
    assert json.loads((tmp_path / "meta").read_text())["containerimage.digest"] == described["digest"]
    files.engine.docker("load", "-i", tmp_path / "image.tar")
    assert files.engine.api("GET", "/images/sent:1/json").status == 200


def test_a_layout_as_a_folder_is_a_context_again(files, tmp_path):
    files.build(TEXT, "-o", f"type=oci,tar=false,dest={tmp_path}/layout")
    described, _, _ = layout(lambda path: (tmp_path / "layout" / path).read_bytes())
    assert described["size"]
    files.build("FROM busybox\nCOPY --from=other /folder/data /\n", "-t", "again",
                "--build-context", f"other=oci-layout://{tmp_path}/layout")
    assert files.run("again", "cat", "/data") == "one\n"


def test_here_in_a_file_and_pushed_at_once(files, tmp_path):
    with running_registry() as registry:
        name = f"{registry.host}/team/app:1"
        files.build(TEXT, "-t", name, "-t", "here:1", "-o", f"type=oci,dest={tmp_path}/image.tar", "-o", "type=image",
                    "--annotation", "manifest:x=y")
        files.build(TEXT, "-t", name, "--push", "--metadata-file", tmp_path / "meta")
        meta = json.loads((tmp_path / "meta").read_text())
        assert meta["containerimage.descriptor"]["digest"] == meta["containerimage.digest"]
    assert files.engine.api("GET", "/images/here:1/json").status == 200
    assert (tmp_path / "image.tar").stat().st_size


@pytest.mark.parametrize(("flags", "text"), [
    (("-o", "type=oci,dest=/dev/null,compression=zstd"), "compression=zstd is not done yet"),
    (("-o", "type=image,oci-mediatypes=true", "-t", "x"), "oci-mediatypes=true of the exporter image is not done yet"),
    (("-o", "type=image,store=false", "-t", "x"), "store=false of the exporter image is not done yet"),
    (("-o", "type=oci,dest=/dev/null,force-compression=true"), "force-compression=true of the exporter oci"),
    (("-o", "type=image", "-t", "x", "--annotation", "index:a=b"), "index annotations not supported for single platform export"),
    (("--sbom=true",), "ttestation"),
    (("--platform", "linux/amd64,linux/arm64"), "several platforms"),
])
def test_what_cannot_be_made_is_refused_before_anything_is_built(files, flags, text):
    told = files.build("FROM busybox\nRUN echo begun\n", *flags, code=1)
    assert text in told and "echo begun" not in told


def test_the_same_image_twice_with_a_time_for_all(files, tmp_path):
    text = "FROM busybox\nCOPY data /\nRUN date +%N >/dev/null; mkdir /d; touch /d/f; sleep 0.01\n"
    ids = []
    for _ in range(2):
        files.build(text, "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--iidfile", tmp_path / "id")
        ids.append((tmp_path / "id").read_text())
    assert ids[0] == ids[1]
    created = files.engine.api("GET", f"/images/{ids[0]}/json").json["Created"]
    assert created == "2001-09-09T01:46:40Z"
