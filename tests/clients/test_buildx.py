"""docker build with the buildx plugin: BuildKit's protocol end to end, by the real client."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from registry_server import running_registry


def test_stages_arguments_and_names(client):
    client.write(data="one\n", left_out="two\n", **{".dockerignore": "left_*\n"})
    told = client.build("""FROM busybox AS first
RUN echo built >/file
FROM busybox
ARG WHO=nobody
COPY --from=first /file /file
COPY . /context/
RUN echo hello $WHO >/who && echo said by a step
CMD ["cat", "/file", "/who"]
""", "-t", "built:one", "-t", "built:two", "--build-arg", "WHO=you", "--label", "a=b")
    assert "[first 2/2] RUN echo built" in told and "[stage-1 4/4] RUN" in told and "said by a step" in told
    assert client.run("built:one") == "built\nhello you\n"
    assert client.run("built:two", "ls", "-A", "/context").split() == [".dockerignore", "Dockerfile", "data"]
    image = client.engine.api("GET", "/images/built:one/json").json
    assert image["Config"]["Labels"] == {"a": "b"}


def test_the_cache_and_what_ends_it(client):
    text = "FROM busybox\nCOPY data /data\nRUN cat /data\n"
    mark = os.urandom(8).hex()  # other tests build the like in the same engine
    client.write(data=f"one {mark}\n")
    client.build(text)
    assert client.build(text).count("CACHED") == 2
    client.write(data=f"two {mark}\n")
    assert client.build(text).count("CACHED") == 0
    assert client.build(text, "--no-cache").count("CACHED") == 0


def test_the_id_and_the_metadata(client, tmp_path):
    client.build("FROM busybox\nENV A=1\n", "--iidfile", tmp_path / "id", "--metadata-file", tmp_path / "meta", "-t", "named:1")
    image_id = (tmp_path / "id").read_text()
    assert client.engine.api("GET", "/images/named:1/json").json["Id"] == image_id
    meta = json.loads((tmp_path / "meta").read_text())
    assert meta["containerimage.digest"] == image_id and meta["image.name"] == "docker.io/library/named:1"


def test_a_step_that_fails_says_which(client):
    told = client.build("FROM busybox\nRUN echo so far && exit 7\n", code=1)
    assert "so far" in told
    assert 'process "/bin/sh -c echo so far && exit 7" did not complete successfully: exit code: 7' in told


@pytest.mark.parametrize(("dockerfile", "flags", "text"), [
    ("FROM busybox\nRUN --security=insecure true\n", ("--allow", "security.insecure"), "not done yet"),
    ("FROM busybox\nCOPY missing /\n", (), "missing"),
    ("FROM busybox\nWRONG x\n", (), "unknown instruction: WRONG"),
    ("FROM busybox\nRUN --mount=type=bind,target=/a,source=../../etc,rw true\n", (), "stat etc: file does not exist"),
    ("FROM busybox\nRUN --mount=type=tmpfs,target=/ true\n", (), 'invalid mount target "/"'),
])
def test_what_cannot_be_done_is_said(client, dockerfile, flags, text):
    assert text in client.build(dockerfile, *flags, code=1)


def test_mounts_of_a_step(client, tmp_path):
    (tmp_path / "token").write_text("a secret")
    client.write(data="from the context\n")
    client.build("""FROM busybox AS other
RUN echo from a stage >/made
FROM busybox
RUN --mount=type=cache,target=/cache echo kept >>/cache/lines
RUN --mount=type=cache,target=/cache cp /cache/lines /lines
RUN --mount=target=/context cat /context/data >/bound && ! touch /context/data
RUN --mount=type=bind,from=other,source=/made,target=/other cat /other >/staged
RUN --mount=type=bind,target=/own,rw echo mine >/own/data && cat /own/data >/changed
RUN --mount=target=/context cat /context/data >>/changed
RUN --mount=type=cache,id=filled,from=other,target=/filled cat /filled/made >/from_cache
RUN --mount=type=tmpfs,target=/scratch echo x >/scratch/x && grep -q '/scratch tmpfs' /proc/mounts
RUN --mount=type=secret,id=token cp /run/secrets/token /leaked && stat -c %a /run/secrets/token >/mode
RUN --mount=type=secret,id=word,env=WORD echo $WORD >/word
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
RUN --network=none ! ip route | grep -q .
""", "-t", "mounts", "--secret", f"id=token,src={tmp_path}/token", "--secret", "id=word,env=TOKEN")
    assert client.run("mounts", "cat", "/lines", "/bound", "/staged", "/leaked", "/mode", "/word", "/changed", "/from_cache") == (
        "kept\nfrom the context\nfrom a stage\na secret400\nfrom the environment\nmine\nfrom the context\nfrom a stage\n")
    assert client.run("mounts", "sh", "-c", "ls -d /cache /context /other /scratch /run/secrets 2>/dev/null; true") == ""


def test_a_secret_stays_nowhere(client, tmp_path):
    (tmp_path / "token").write_text("sesame-open-4711")
    text = "FROM busybox\nRUN --mount=type=secret,id=token,env=T --mount=type=secret,id=token test -n \"$T\"\n"
    client.build(text, "-t", "quiet", "--secret", f"id=token,src={tmp_path}/token")
    found = subprocess.run(["grep", "-rl", "sesame-open-4711", client.engine.folder], capture_output=True, text=True)
    assert found.stdout == ""
    assert "4711" not in json.dumps(client.engine.api("GET", "/images/quiet/json").json)
    assert "4711" not in json.dumps(client.engine.api("GET", "/images/quiet/history").json)
    assert "secret needed: not found" in client.build(
        "FROM busybox\nRUN --mount=type=secret,id=needed,required=true true\n", code=1)


def test_pushed_to_a_registry(client):
    with running_registry() as registry:
        name = f"{registry.host}/team/app:1"
        client.build("FROM busybox\nRUN echo pushed >/f\n", "-t", name, "--push")
        client.engine.docker("rmi", name)
        assert client.run(name, "cat", "/f") == "pushed\n"


def test_a_client_that_leaves_ends_its_build(client):
    (client.context / "Dockerfile").write_text("FROM busybox\nRUN sleep 1000\n")
    process = subprocess.Popen([client.plugin, "build", "--progress=plain", client.context], env=client.environment,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "RUN sleep" in line:
            break
    process.terminate()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while client.engine.api("GET", "/containers/json?all=1").json:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_stages_that_do_not_wait_for_each_other_run_together(client):
    port = free_port()
    told = client.build(f"""FROM busybox AS one
RUN echo one >/one && until nc -w 100 127.0.0.1 {port} </one; do sleep 0.1; done
FROM busybox AS two
RUN nc -l -p {port} >/two
FROM busybox AS nobody_asks_for_it
RUN exit 1
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
""", "-t", "together", "--network=host", "--allow=network.host")
    assert "nobody_asks" not in told
    assert client.run("together", "cat", "/one", "/two") == "one\none\n"


def test_one_of_the_stages_fails(client):
    told = client.build("""FROM busybox AS one
RUN sleep 1000
FROM busybox AS two
RUN exit 3
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
""", code=1)
    assert "exit code: 3" in told and "CANCELED" in told
    assert client.engine.api("GET", "/containers/json?all=1").json == []


def test_only_one_stage_does_without_the_cache(client):
    text = "FROM busybox AS one\nRUN echo 1\nFROM busybox AS two\nRUN echo 2\nFROM scratch\nCOPY --from=one /bin /1\nCOPY --from=two /bin /2\n"
    client.build(text)
    told = client.build(text, "--no-cache-filter=two")
    cached = told.split("CACHED")[0].rsplit("\n", 1)[-1]
    number = told[told.index("[one 2/2]") - 10:].split("#")[1].split(" ")[0]
    assert f"#{number} CACHED" in told, (cached, told)
    number = told[told.index("[two 2/2]") - 10:].split("#")[1].split(" ")[0]
    assert f"#{number} DONE" in told


def test_the_same_step_of_two_builds_is_done_once(client, tmp_path):
    port = free_port()
    text = f"FROM busybox\nRUN cat /proc/sys/kernel/random/uuid && until wget -q -O- http://127.0.0.1:{port}/; do sleep 0.1; done\n"
    (client.context / "Dockerfile").write_text(text)
    builds = [subprocess.Popen([client.plugin, "build", "--progress=plain", "--network=host", "--iidfile", tmp_path / name, client.context],
                               env=client.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for name in "ab"]
    told = []
    for build in builds:
        for line in build.stderr:
            if re.search(r"#\d+ [0-9.]+ [0-9a-f-]{36}$", line):
                told.append(line.split()[-1])
                break
    assert len(client.engine.api("GET", "/containers/json?all=1").json) == 1
    server = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "-d", tmp_path], stderr=subprocess.DEVNULL)
    try:
        for build in builds:
            build.communicate(timeout=60)
            assert build.returncode == 0
    finally:
        server.kill()
        server.wait()
    assert told[0] == told[1]
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
