"""What docker buildx build makes of an image: archives, folders, layouts, several at once, names, annotations."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest
import registry_server
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
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=280, check=True)
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


def test_pushed_by_its_digest_alone(files, tmp_path):
    with running_registry() as registry:
        name = f"{registry.host}/team/app"
        files.build(TEXT, "-o", f"type=image,name={name},push-by-digest=true,name-canonical=true", "--metadata-file", tmp_path / "meta",
                    "--provenance=false")
        digest = json.loads((tmp_path / "meta").read_text())["containerimage.digest"]
        manifest, _ = registry.get_manifest("team/app", digest)
        assert registry.get_blob("team/app", manifest["config"]["digest"])
        assert registry.request("GET", "/v2/team/app/tags/list")[0] == 404
        assert files.engine.docker("pull", f"{name}@{digest}").returncode == 0


def test_docker_build_is_buildx_where_the_plugin_is(files):
    plugins = Path(files.environment["DOCKER_CONFIG"], "cli-plugins")
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "docker-buildx").symlink_to(files.plugin)
    files.write(Dockerfile="FROM busybox\nRUN --mount=type=tmpfs,target=/t echo by docker >/made\n")
    for flags in ((), ("--no-cache",)):
        done = subprocess.run(["docker", "build", "--progress=plain", *flags, "-t", "default:1", files.context], env=files.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0 and "[2/2] RUN --mount=type=tmpfs" in done.stderr, done.stderr
    assert files.run("default:1", "cat", "/made") == "by docker\n"


@pytest.mark.parametrize(("flags", "text"), [
    (("-o", "type=oci,dest=/dev/null,compression=estargz"), "compression=estargz is not done"),
    (("-o", "type=oci,dest=/dev/null,compression=lzma"), "unsupported compression type lzma"),
    (("-o", "type=oci,dest=/dev/null,compression=gzip,compression-level=10"), "invalid compression-level 10"),
    (("-o", "type=image,oci-mediatypes=false,compression=zstd", "-t", "x"), "conflicts with \"oci-mediatypes=false\""),
    (("-o", "type=image,store=maybe", "-t", "x"), "non-bool value specified for store"),
    (("-o", "type=image,oci-artifact=true", "-t", "x"), "oci-artifact=true of the exporter image is not done yet"),
    (("-o", "type=oci,dest=/dev/null,source-date-epoch=5"), "source-date-epoch=5 of an exporter is not done"),
    (("-o", "type=image", "-t", "x", "--annotation", "index:a=b"), "index annotations not supported for single platform export"),
    (("--sbom=true",), "attestations of kind sbom are not made"),
    (("--attest", "type=provenance,mode=much"), 'invalid mode "much"'),
    (("--platform", "linux/amd64,linux/arm64", "-o", "type=docker,dest=/dev/null"), "does not support exporting manifest lists"),
    (("--platform", "linux/amd64,linux/arm64", "-o", "type=tar,dest=/dev/null,platform-split=false"), "platform-split=false"),
    (("--platform", "windows/amd64"), "only images of linux are built"),
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


def blob(registry, name, descriptor):
    return registry.get_blob(name, descriptor["digest"])


@pytest.mark.parametrize(("flags", "kind", "start"), [
    ("compression=uncompressed", "tar", b""), ("compression=gzip,compression-level=9", "tar+gzip", b"\x1f\x8b"),
    ("compression=zstd,compression-level=19", "tar+zstd", b"\x28\xb5\x2f\xfd"),
])
def test_layers_are_compressed_as_asked(files, flags, kind, start):
    with running_registry() as registry:
        files.build(TEXT, "-o", f"type=image,name={registry.host}/a/b:1,push=true,{flags}")
        index, _ = registry.get_manifest("a/b", "1")
        manifest, _ = registry.get_manifest("a/b", index["manifests"][0]["digest"])
        assert {layer["mediaType"] for layer in manifest["layers"]} == {f"application/vnd.oci.image.layer.v1.{kind}"}
        assert all(blob(registry, "a/b", layer).startswith(start) for layer in manifest["layers"])
        files.engine.docker("rmi", f"{registry.host}/a/b:1")
        files.engine.docker("pull", f"{registry.host}/a/b:1")


def test_only_force_compresses_what_came_compressed(files):
    """The base's layer stays as it was pulled; with force-compression it is another blob."""
    with running_registry() as registry:
        registry.put_image("base", "1", [registry_server.layer({"f": b"x" * 5000})], {})
        base = registry.get_manifest("base", "1")[0]["layers"][0]
        text = f"FROM {registry.host}/base:1\nCOPY data /\n"
        kinds = []
        for force in ("false", "true"):
            files.build(text, "--provenance=false",
                        "-o", f"type=image,name={registry.host}/a/b:{force},push=true,compression=zstd,force-compression={force}")
            layers = registry.get_manifest("a/b", force)[0]["layers"]
            kinds.append([layer["mediaType"].rpartition("+")[2] for layer in layers])
            assert (layers[0]["digest"] == base["digest"]) == (force == "false")
        assert kinds == [["gzip", "zstd"], ["zstd", "zstd"]]


def test_names_of_all_kinds(files):
    with running_registry() as registry:
        one, two = f"{registry.host}/a/b", f"{registry.host}/c/d"
        files.build(TEXT, "--provenance=false", "-o", f'type=image,"name={one}:1,{two}:2",push=true,name-canonical=true,oci-mediatypes=true')
        _, data = registry.get_manifest("a/b", "1")
        assert registry.get_manifest("c/d", "2")[1] == data
        digest = registry_server.digest_of(data)
        assert files.engine.api("GET", f"/images/{one}@{digest}/json").status == 200
        files.build(TEXT, "-o", f"type=image,name={registry.host}/not/here,push=true,store=false")
        assert registry.get_manifest("not/here", "latest")[0]["manifests"]
        assert files.engine.api("GET", f"/images/{registry.host}/not/here/json").status == 404
    files.build(TEXT, "-o", "type=image,dangling-name-prefix=loose")
    assert any(digest.startswith("loose@") for image in files.engine.api("GET", "/images/json").json for digest in image["RepoDigests"] or ())


def test_docker_media_types_when_asked(files):
    with running_registry() as registry:
        files.build(TEXT, "-o", f"type=image,name={registry.host}/a/b:1,push=true,oci-mediatypes=false,force-compression=true")
        manifest, _ = registry.get_manifest("a/b", "1")
    assert manifest["mediaType"] == registry_server.MANIFEST_V2
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}


def test_annotations_have_four_places(files, tmp_path):
    files.build("FROM scratch\nCOPY data /\n", "--platform", "linux/amd64,linux/arm64", "-o", f"type=oci,tar=false,dest={tmp_path}/l",
                "--annotation", "index:a=b", "--annotation", "index-descriptor:c=d", "--annotation", "manifest-descriptor:e=f",
                "--annotation", "manifest[linux/arm64]:only=arm", "--annotation", "k=v")
    described = json.loads((tmp_path / "l/index.json").read_text())["manifests"][0]
    index = json.loads((tmp_path / "l/blobs/sha256" / described["digest"][7:]).read_text())
    manifests = [json.loads((tmp_path / "l/blobs/sha256" / entry["digest"][7:]).read_text()) for entry in index["manifests"]]
    assert described["annotations"].items() >= {"c": "d"}.items() and index["annotations"] == {"a": "b"}
    assert [entry["annotations"] for entry in index["manifests"]] == [{"e": "f"}] * 2
    assert [manifest["annotations"] for manifest in manifests] == [{"k": "v"}, {"k": "v", "only": "arm"}]
    told = files.build("FROM scratch\nCOPY data /\n", "-o", "type=oci,dest=/dev/null", "--annotation", "manifest[linux/s390x]:a=b", code=1)
    assert "no platform linux/s390x found in source" in told
