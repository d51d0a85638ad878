"""Provenance of builds by docker buildx: in pushes by default, in files on request, never with a secret in it."""

import json
import shutil
import subprocess
import tempfile

import pytest
from registry_server import running_registry

TEXT = ("FROM busybox\nARG A\nRUN --mount=type=secret,id=token,env=HIDDEN test -n \"$HIDDEN\"\n"
        "RUN --mount=type=ssh true\nCOPY data /data\nWORKDIR /made\n")
SECRET = ("--secret", "id=token,env=TOKEN", "--build-arg", "A=shown")


@pytest.fixture
def files(client):
    client.write(data="one\n")
    return client


def attested(registry, name, tag):
    """(the index, the statement about its first image)."""
    index, _ = registry.get_manifest(name, tag)
    image, proof = index["manifests"]
    assert proof["annotations"] == {"vnd.docker.reference.type": "attestation-manifest",
                                    "vnd.docker.reference.digest": image["digest"]}
    assert proof["platform"] == {"architecture": "unknown", "os": "unknown"}
    manifest, _ = registry.get_manifest(name, proof["digest"])
    (layer,) = manifest["layers"]
    data = registry.get_blob(name, layer["digest"])
    statement = json.loads(data)
    assert layer["annotations"]["in-toto.io/predicate-type"] == statement["predicateType"]
    assert f"sha256:{statement['subject'][0]['digest']['sha256']}" == image["digest"]
    assert b"from the environment" not in data
    return index, statement


def test_a_push_has_provenance_and_runs_everywhere(files):
    with running_registry() as registry:
        name = f"{registry.host}/team/app:1"
        files.build(TEXT, *SECRET, "-t", name, "--push")
        index, statement = attested(registry, "team/app", "1")
        assert statement["predicateType"] == "https://slsa.dev/provenance/v0.2"
        predicate = statement["predicate"]
        assert predicate["materials"][0]["uri"] == "pkg:docker/busybox@latest?platform=linux%2Famd64"
        assert predicate["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
        assert "args" not in predicate["invocation"]["parameters"] and "buildConfig" not in predicate
        assert predicate["metadata"]["completeness"] == {"parameters": False, "environment": True, "materials": False}
        assert files.run(name, "cat", "/data") == "one\n"
        files.engine.docker("rmi", name)
        files.engine.docker("pull", name)
        assert files.run(name, "cat", "/data") == "one\n"
        assert files.engine.api("GET", f"/images/{name}/json").json["RepoTags"] == [name]
        with tempfile.TemporaryDirectory(prefix="pod") as short:  # podman's paths are bounded
            for program, *arguments in (("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{short}/dir"),
                                        ("podman", "--root", f"{short}/pod", "--runroot", f"{short}/run", "--storage-driver", "vfs",
                                         "pull", "--tls-verify=false", name)):
                if shutil.which(program):
                    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=280, check=False)
                    assert done.returncode == 0, done.stderr
        files.build(TEXT, *SECRET, "-t", f"{registry.host}/team/app:2", "--push", "--provenance=false")
        assert registry.get_manifest("team/app", "2")[0]["config"] and len(index["manifests"]) == 2


@pytest.mark.parametrize("version", ["v0.2", "v1"])
def test_all_of_it(files, version):
    with running_registry() as registry:
        files.build(TEXT, *SECRET, "-t", f"{registry.host}/a/b:1", "--push",
                    "--attest", f"type=provenance,mode=max,version={version},builder-id=https://ci/1")
        _, statement = attested(registry, "a/b", "1")
    assert statement["predicateType"] == f"https://slsa.dev/provenance/{version}"
    predicate = statement["predicate"]
    if version == "v1":
        asked, config = predicate["buildDefinition"]["externalParameters"]["request"], predicate["buildDefinition"]["internalParameters"]["buildConfig"]
        source, builder = predicate["runDetails"]["metadata"]["buildkit_metadata"]["source"], predicate["runDetails"]["builder"]
    else:
        asked, config = predicate["invocation"]["parameters"], predicate["buildConfig"]
        source, builder = predicate["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["source"], predicate["builder"]
    assert builder == {"id": "https://ci/1"} and asked["args"] == {"build-arg:A": "shown"}
    assert [one["id"] for one in asked["secrets"]] == ["token"] and [one["id"] for one in asked["ssh"]] == ["default"]
    operations = [next(iter(step["op"]["Op"])) for step in config["llbDefinition"]]
    assert operations == ["source", "exec", "exec", "file", "file"]
    assert [step.get("inputs") for step in config["llbDefinition"]] == [None, ["step0:0"], ["step1:0"], ["step2:0"], ["step3:0"]]
    assert source["locations"]["step1"]["locations"][0]["ranges"][0]["start"] == {"line": 3}
    assert source["infos"][0]["filename"] == "Dockerfile"


def test_in_archives_and_folders_on_request_alone(files, tmp_path):
    files.build(TEXT, *SECRET, "-t", "kept:1", "-o", f"type=oci,dest={tmp_path}/with.tar", "-o", f"type=local,dest={tmp_path}/out", "--provenance=true")
    assert json.loads((tmp_path / "out/provenance.json").read_text())["buildType"] == "https://mobyproject.org/buildkit@v1"
    files.build(TEXT, *SECRET, "-t", "kept:2", "-o", f"type=oci,dest={tmp_path}/without.tar", "-o", f"type=local,dest={tmp_path}/bare")
    assert not (tmp_path / "bare/provenance.json").exists()
    tops = []
    for name in ("with", "without"):
        done = subprocess.run(["tar", "xOf", tmp_path / f"{name}.tar", "index.json"], capture_output=True, check=True)
        tops.append(json.loads(done.stdout)["manifests"][0]["mediaType"].rpartition(".oci.image.")[2])
        files.engine.docker("load", "-i", tmp_path / f"{name}.tar")
    assert tops == ["index.v1+json", "manifest.v1+json"]
    assert files.run("kept:1", "cat", "/data") == "one\n"
