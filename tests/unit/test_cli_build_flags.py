"""The flags of `corten build` as BuildKit's front end, exporters and caches are told them."""

import json

import pytest

from corten.cli import build as command
from corten.cli.args import Parser
from corten.cli.buildkit import flags
from corten.cli.buildkit.asked import Asked
from corten.cli.buildkit.caches import add_to_index, manifests, name_of, read_index
from corten.cli.buildkit.run import metadata
from corten.cli.errors import Failure
from corten.cli.options_image import OPTIONS


def parsed(*words):
    return Parser(OPTIONS["image build"]).parse(list(map(str, words)))


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function: flags of a build of a folder with a Dockerfile -> Asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return lambda *words: flags.read_flags(parsed(*words, "."))


def outputs(asked):
    return [(one.kind, one.attributes, one.folder.rpartition("/")[2] or one.file.rpartition("/")[2]) for one in asked.outputs]


@pytest.mark.parametrize(("words", "wanted"), [
    ([], [("image", {"name": "a:1"}, "")]),
    (["--push"], [("image", {"name": "a:1", "push": "true"}, "")]),
    (["--load"], [("image", {"name": "a:1"}, "")]),
    (["-o", "out"], [("local", {}, "out")]),
    (["-o", "type=local,dest=out,mode=delete"], [("local", {}, "out")]),
    (["-o", "type=tar,dest=f.tar"], [("tar", {}, "f.tar")]),
    (["-o", "-"], [("tar", {}, "-")]),
    (["-o", "type=registry"], [("image", {"name": "a:1", "push": "true"}, "")]),
    (["-o", "type=docker"], [("image", {"name": "a:1"}, "")]),
    (["-o", "type=docker,dest=d.tar"], [("docker", {"name": "a:1"}, "d.tar")]),
    (["-o", "type=oci,dest=d,tar=false"], [("oci", {"name": "a:1", "tar": "false"}, "d")]),
    (["-o", '"type=image","name=b,c"'], [("image", {"name": "b,c"}, "")]),
    (["-o", "type=cacheonly"], []),
    (["-o", "out", "--push"], [("local", {}, "out"), ("image", {"name": "a:1", "push": "true"}, "")]),
    (["-o", "type=image", "--push", "--load"], [("image", {"name": "a:1", "push": "true"}, "")]),
    (["--annotation", "k=v", "--annotation", "index,manifest[linux/amd64]:k=w"],
     [("image", {"name": "a:1", "annotation.k": "v", "annotation-index.k": "w", "annotation-manifest[linux/amd64].k": "w"}, "")]),
    (["--annotation", "org.example:x=v"], [("image", {"name": "a:1", "annotation.org.example:x": "v"}, "")]),
])
def test_outputs(read, monkeypatch, words, wanted):
    monkeypatch.setattr("os.isatty", lambda descriptor: False)
    assert outputs(read("-t", "a:1", *words)) == wanted


@pytest.mark.parametrize(("words", "attributes"), [
    (["--build-arg", "A=1", "--build-arg", "HERE", "--build-arg", "ABSENT"], {"build-arg:A": "1", "build-arg:HERE": "yes"}),
    (["--label", "a=b", "--target", "t", "--pull"], {"label:a": "b", "target": "t", "image-resolve-mode": "pull"}),
    (["--no-cache"], {"no-cache": ""}),
    (["--no-cache-filter", "a,b"], {"no-cache": "a,b"}),
    (["--platform", "linux/amd64,linux/arm64"], {"platform": "linux/amd64,linux/arm64"}),
    (["--add-host", "a:1.2.3.4,b=::1"], {"add-hosts": "a=1.2.3.4,b=::1"}),
    (["--shm-size", "8m", "--ulimit", "nofile=64:128", "--cgroup-parent", "p"],
     {"shm-size": "8388608", "ulimit": "nofile=64:128", "cgroup-parent": "p"}),
    (["--network", "none"], {"force-network-mode": "none"}),
    (["--provenance", "mode=max"], {"attest:provenance": "mode=max"}),
    (["--provenance=false", "--sbom=true"], {"attest:provenance": "disabled=true", "attest:sbom": ""}),
    (["--attest", "type=sbom,generator=x/y"], {"attest:sbom": "generator=x/y"}),
    (["--cache-from", "u/a:c"], {"cache-imports": [{"Type": "registry", "Attrs": {"ref": "u/a:c"}}]}),
    (["--build-context", "Base=docker-image://alpine"], {"context:base": "docker-image://alpine"}),
    (["--build-context", "src=https://example.com/a.git"], {"context:src": "https://example.com/a.git"}),
])
def test_attributes(read, monkeypatch, words, attributes):
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("ABSENT", raising=False)
    found = {name: json.loads(value) if value.startswith("[") else value for name, value in read(*words).attributes.items()}
    usual = {"attest:provenance": "mode=min,inline-only=true"}
    assert found == {"filename": "Dockerfile", **usual, **attributes}


def test_entitlements(read):
    assert read("--network", "host").entitlements == {"network.host"}
    assert read("--allow", "network.host", "--allow", "security.insecure").entitlements == {"network.host", "security.insecure"}


def test_secrets_and_their_sources(read, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "x")
    (tmp_path / "file").write_text("s")
    asked = read("--secret", "id=a,src=file", "--secret", "id=TOKEN", "--secret", "id=b,env=TOKEN", "--secret", "type=env,id=TOKEN",
                 "--secret", "id=file")
    found = {name: (one.path, one.variable) for name, one in asked.secrets.items()}
    path = str(tmp_path / "file")
    assert found == {"a": (path, ""), "TOKEN": ("", "TOKEN"), "b": ("", "TOKEN"), "file": (path, "")}


@pytest.mark.parametrize(("words", "text"), [
    (["-o", "type=local"], "dest is required for local output"),
    (["-o", "dest=x"], "type is required for output"),
    (["-o", "type=image,dest=x"], "dest is not supported for image output"),
    (["-o", "type=local,dest=x,mode=move"], "invalid local output mode move"),
    (["-o", "-", "-o", "type=oci,dest=-"], "multiple outputs to stdout"),
    (["-o", "type=oci,tar=false"], "dest is required for oci output with tar=false"),
    (["-o", "type=tar,nonsense"], "must be a key=value pair"),
    (["--annotation", "x"], "expected key=value"),
    (["--secret", "src=x"], "secret id is missing"),
    (["--secret", "id=a,src=/nowhere"], "failed to stat /nowhere"),
    (["--secret", "id=a,colour=red"], "unexpected key 'colour'"),
    (["--ssh", "a=/nowhere"], "failed to open /nowhere"),
    (["--allow", "everything"], "unknown entitlement everything"),
    (["--attest", "mode=max"], "attestation type not specified"),
    (["--build-context", "a"], "expected key=value"),
    (["--build-context", "a=nowhere"], "path nowhere not found"),
    (["--build-context", "a=target:x"], "for bake"),
    (["--cache-to", "type=local"], "requires dest"),
    (["-f", "nowhere/Dockerfile"], "nowhere not found"),
])
def test_what_is_wrong_is_said_before_anything_is_asked(read, monkeypatch, words, text):
    monkeypatch.setattr("os.isatty", lambda descriptor: False)
    with pytest.raises(Failure, match="(?s).*" + text):
        read(*words)


def test_which_builder(monkeypatch):
    monkeypatch.setenv("DOCKER_BUILDKIT", "")
    assert not command._is_classic(parsed("--label", "a=b", "."))
    assert command._is_classic(parsed("--memory", "64m", ".")) and command._is_classic(parsed("--rm=false", "."))
    with pytest.raises(Failure, match="--secret option requires BuildKit, and --memory is the classic builder's"):
        command._is_classic(parsed("--memory", "64m", "--secret", "id=x", "."))
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    assert command._is_classic(parsed("."))
    with pytest.raises(Failure, match="--output option requires BuildKit, and DOCKER_BUILDKIT=0"):
        command._is_classic(parsed("-o", "x", "."))
    monkeypatch.setenv("DOCKER_BUILDKIT", "maybe")
    with pytest.raises(Failure, match="expects boolean value: maybe"):
        command._is_classic(parsed("."))


def test_an_index_keeps_what_others_put_there(tmp_path):
    add_to_index(str(tmp_path / "l"), {"digest": "sha256:1"}, ["a", "b"])
    add_to_index(str(tmp_path / "l"), {"digest": "sha256:2", "annotations": {"x": "y"}}, ["b"])
    assert {name_of(one): one["digest"] for one in manifests(read_index(str(tmp_path / "l")))} == {"a": "sha256:1", "b": "sha256:2"}
    assert json.loads((tmp_path / "l/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (tmp_path / "l/index.json").write_text("{")
    with pytest.raises(Failure, match=r"index\.json"):
        read_index(str(tmp_path / "l"))


def test_metadata_shows_json_as_json():
    assert metadata({"a": "eyJiIjoxfQ==", "c": "plain", "d": "AAAA"}) == {"a": {"b": 1}, "c": "plain", "d": "AAAA"}


def test_folders_made_for_a_build_go_with_it(tmp_path):
    asked = Asked()
    (tmp_path / "made").mkdir()
    asked.scratch.append(str(tmp_path / "made"))
    flags.drop_scratch(asked)
    assert not (tmp_path / "made").exists()
