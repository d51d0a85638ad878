"""POST /build: the classic stream, every instruction's effect, the cache, refusals, cancellation. Texts as dockerd 28."""

import json
import re
import time

import pytest
from build_context import archive, begin, build, build_folders
from daemon_process import until


def config_of(engine, ref):
    return engine.api("GET", f"/images/{ref}/json").json["Config"]


def test_the_stream_is_that_of_the_classic_builder(engine, leaks):
    done = build(engine, 'FROM busybox\nENV A=1\nRUN echo hello $A\nCOPY a.txt /srv/\nCMD ["sh"]\n', t="s/x:1", nocache="1")
    assert done.shape == (
        "Step 1/5 : FROM busybox\n ---> <id>\n"
        "Step 2/5 : ENV A=1\n ---> Running in <id>\n ---> Removed intermediate container <id>\n ---> <id>\n"
        "Step 3/5 : RUN echo hello $A\n ---> Running in <id>\nhello 1\n"
        " ---> Removed intermediate container <id>\n ---> <id>\n"
        "Step 4/5 : COPY a.txt /srv/\n ---> <id>\n"
        'Step 5/5 : CMD ["sh"]\n ---> Running in <id>\n ---> Removed intermediate container <id>\n ---> <id>\n'
        "Successfully built <id>\nSuccessfully tagged s/x:1\n")
    assert done.messages[0] == {"stream": "Step 1/5 : FROM busybox"}
    assert done.image == engine.api("GET", "/images/s/x:1/json").json["Id"]


def test_a_second_build_comes_from_the_cache(engine):
    text = "FROM busybox\nRUN echo x >/x\nCOPY a.txt d /y/\n"
    first = build(engine, text, nocache="1")
    again = build(engine, text)
    assert again.image == first.image
    assert again.shape == (
        "Step 1/3 : FROM busybox\n ---> <id>\nStep 2/3 : RUN echo x >/x\n ---> Using cache\n ---> <id>\n"
        "Step 3/3 : COPY a.txt d /y/\n ---> Using cache\n ---> <id>\nSuccessfully built <id>\n")
    changed = build(engine, text, files={"a.txt": b"other\n", "d": None})
    assert changed.text.count("Using cache") == 1
    assert changed.image != first.image


def test_stderr_is_red_and_a_failure_is_the_last_message(engine, leaks):
    done = build(engine, "FROM busybox\nRUN echo err >&2; exit 3\n", forcerm="1")
    assert "\x1b[91merr\n\x1b[0m" in done.text
    message = "The command '/bin/sh -c echo err >&2; exit 3' returned a non-zero code: 3"
    assert done.messages[-1] == {"errorDetail": {"code": 3, "message": message}, "error": message}
    assert engine.api("GET", "/containers/json?all=1").json == []


@pytest.mark.parametrize(("remove", "force", "code", "left"), [
    ("0", "0", 0, 2), ("1", "0", 0, 0), ("0", "1", 0, 0), ("0", "0", 3, 2), ("1", "0", 3, 1), ("1", "1", 3, 0), ("0", "1", 3, 0)])
def test_containers_of_steps_stay_as_dockers_do(engine, leaks, remove, force, code, left):
    done = build(engine, f"FROM busybox\nENV A=1\nRUN echo $A >/one\nRUN echo $A >/two; exit {code}\n", nocache="1", rm=remove,
                 forcerm=force)
    assert bool(done.error) == bool(code)
    ids = re.findall(" ---> Running in ([0-9a-f]{12})", done.text)
    there = [one["Id"] for one in engine.api("GET", "/containers/json?all=1").json]
    assert sorted(one[:12] for one in there) == sorted(ids[3 - left:] if left < 2 else ids[1:])
    for container in there:
        assert len(engine.api("GET", f"/containers/{container}/changes").json) == 1
        assert engine.api("DELETE", f"/containers/{container}").status == 204


def test_what_a_failed_step_left_can_be_looked_at(engine, leaks):
    done = build(engine, "FROM busybox\nRUN echo far >/how; exit 3\n")
    container = re.findall(" ---> Running in ([0-9a-f]{12})", done.text)[-1]
    answer = engine.api("GET", f"/containers/{container}/archive?path=/how")
    assert answer.status == 200 and b"far\n" in answer.body
    assert engine.api("GET", f"/containers/{container}/json").json["State"]["ExitCode"] == 3
    assert engine.api("DELETE", f"/containers/{container}").status == 204


def test_configuration_of_every_instruction(engine):
    done = build(engine, """FROM busybox
ENV A=1 B="two words" PATH=$PATH:/x
LABEL k=v "a b"="c d"
EXPOSE 80 90/udp 8000-8001
VOLUME /data
WORKDIR a
WORKDIR b
USER 1000:2
CMD ["x", "$A"]
ENTRYPOINT e $A
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
SHELL ["/bin/sh", "-ec"]
MAINTAINER me
ONBUILD RUN echo onb
""", t="conf", labels={"l": "x y"})
    assert not done.error
    image = engine.api("GET", "/images/conf/json").json
    config = image["Config"]
    assert config["Env"][-2:] == ["A=1", "B=two words"] and config["Env"][0].endswith("/bin:/x")
    assert config["Labels"] == {"k": "v", "a b": "c d", "l": "x y"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "90/udp", "8000/tcp", "8001/tcp"}
    assert config["Volumes"] == {"/data": {}}
    assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/a/b", "1000:2", "SIGINT")
    assert (config["Cmd"], config["Entrypoint"]) == (["x", "$A"], ["/bin/sh", "-c", "e $A"])
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 2}
    assert config["Shell"] == ["/bin/sh", "-ec"]
    assert config["OnBuild"] == ["RUN echo onb"]
    assert image["Author"] == "me"
    lines = [row["CreatedBy"] for row in engine.api("GET", "/images/conf/history").json]
    assert lines[0] == "/bin/sh -ec #(nop)  LABEL l=x y"
    assert "/bin/sh -c #(nop) WORKDIR /a/b" in lines
    assert '/bin/sh -c #(nop)  ENTRYPOINT ["/bin/sh" "-c" "e $A"]' in lines


def test_stages_arguments_and_onbuild(engine):
    build(engine, "FROM busybox\nONBUILD RUN echo triggered\nONBUILD ENV T=1\n", t="onb")
    done = build(engine, """ARG BASE=nope
FROM $BASE AS one
RUN echo 1 >/one; chown 5:6 /one
FROM one AS two
ARG V=default
ARG N
RUN echo $V $N $HTTP_PROXY >/two
FROM onb
COPY --from=two /one /two /z/
COPY --from=0 --chown=7 /one /own/
RUN cat /z/two; stat -c '%u:%g' /z/one /own /own/one; echo T=$T
FROM busybox AS unused
""", buildargs={"BASE": "busybox", "N": "given", "HTTP_PROXY": "p", "ZZ": "1"}, target="2", nocache="1")
    assert not done.error
    assert "# Executing 2 build triggers\n" in done.text and "triggered\n" in done.text
    assert "default given p\n5:6\n7:7\n7:7\nT=1\n" in done.text
    assert "[Warning] One or more build-args [ZZ] were not consumed\n" in done.text
    assert "unused" not in done.text
    history = engine.api("GET", f"/images/{done.image}/history").json
    assert not any("HTTP_PROXY" in row["CreatedBy"] for row in history)


def test_add_extracts_archives_and_copy_does_not(engine):
    inner = archive({"in/f": b"ar\n"}, "gz", owner=7)
    files = {"ar.tar.gz": inner, "plain.gz": b"\x1f\x8bnot really"}
    done = build(engine, """FROM busybox
ADD ar.tar.gz /ar
ADD plain.gz /plain/
COPY ar.tar.gz /cp/
RUN stat -c '%n %u' /ar/in/f /cp/ar.tar.gz /plain/plain.gz
""", files=files, nocache="1")
    assert "/ar/in/f 7\n/cp/ar.tar.gz 0\n/plain/plain.gz 0\n" in done.text, done.error


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_contexts_come_compressed_too(engine, compression):
    assert not build(engine, "FROM scratch\nCOPY a.txt /\n", compression=compression).error


def test_heredocs(engine):
    done = build(engine, "FROM busybox\nENV A=1\nRUN <<E\necho one\necho $A\nE\nCOPY <<X <<'Y' /h/\na $A\nX\nb $A\nY\nRUN cat /h/X /h/Y\n",
                 nocache="1")
    assert "one\n1\n" in done.text and "a 1\nb $A\n" in done.text


def test_a_step_leaves_only_its_own_changes(engine):
    """What the runtime makes to mount over (/proc, /etc/hosts) is no part of a layer."""
    done = build(engine, "FROM busybox\nRUN true\nRUN touch /made\n", t="thin", nocache="1")
    layers = engine.api("GET", "/images/thin/json").json["RootFS"]["Layers"]
    base = engine.api("GET", "/images/busybox/json").json["RootFS"]["Layers"]
    assert len(layers) == len(base) + 1
    assert not done.error


REFUSED = [
    ("FROM busybox\nFOO bar\n", {}, 400, "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)"),
    ("# only\n", {}, 400, "failed to parse Dockerfile: file with no instructions"),
    ("", {}, 400, "the Dockerfile (Dockerfile) cannot be empty"),
    ("FROM busybox\n", {"dockerfile": "Nope"}, 500, "Cannot locate specified Dockerfile: Nope"),
    ("FROM busybox\n", {"target": "zz"}, 400, 'target stage "zz" could not be found'),
    ("FROM busybox\n", {"t": "BAD NAME"}, 400, "invalid reference format: repository name (library/BAD NAME) must be lowercase"),
    ("FROM busybox\n", {"version": "3"}, 400, 'invalid version "3"'),
    ("FROM busybox\n", {"remote": "somewhere"}, 400, "remoteURL (somewhere) could not be recognized as URL"),
    ("FROM busybox\n", {"remote": "client-session"}, 400, None),
    ("FROM busybox\n", {"squash": "1"}, 400, "squash is only supported with experimental mode"),
    ("FROM busybox\n", {"platform": "windows/amd64"}, 501, "platform windows/amd64 is not supported: only images of linux are built"),
    ("FROM busybox\n", {"platform": "a/b/c/d"}, 400, None),
    ("FROM busybox\n", {"isolation": "hyperv"}, 400, 'unsupported isolation: "hyperv"'),
    ("FROM busybox\n", {"t": "a@sha256:" + "0" * 64}, 400, "build tag cannot contain a digest"),
    ("FROM busybox\n", {"dockerfile": "../x"}, 500, None),
    ("FROM busybox\n", {"labels": '{"a":1}'}, 400, "error reading labels: values must be strings"),
    ("FROM busybox\n", {"labels": "[]"}, 400, "error reading labels: not a JSON object"),
    ("FROM busybox\n", {"buildargs": '{"a":1}'}, 400, "error reading build args: values must be strings"),
    ("FROM busybox\n", {"buildargs": "[]"}, 400, "error reading build args: not a JSON object"),
    ("FROM busybox\n", {"cachefrom": "[1]"}, 400, "error reading cache-from: not a list of strings"),
    ("FROM busybox\n", {"ulimits": "{}"}, 400, None),
    ("FROM busybox\n", {"outputs": '[{"Type":"tar"}]'}, 501, None),
    ("FROM busybox\n", {"version": "2", "networkmode": "mine"}, 400, 'network mode "mine" not supported by buildkit'),
    ("FROM busybox\n", {"version": "2", "outputs": '[{"Type":"tar"},{"Type":"tar"}]'}, 400, "multiple outputs not supported"),
    ("FROM busybox\n", {"version": "2", "outputs": '[1]'}, 400, None),
    ("FROM busybox\n", {"version": "2", "remote": "client-session"}, 400, None),
    ("FROM busybox\n", {"version": "2", "remote": "upload-request"}, 501, None),
    ("FROM busybox\n", {"memory": "x"}, 400, "invalid memory: 'x'"),
]


# parameter, what dockerd 28.5 says of it when the step begins; None: it builds
AT_THE_STEP = [
    ({"memory": "67108864", "memswap": "-1", "cpushares": "2", "shmsize": "1048576"}, None),
    ({"rm": "0"}, None), ({"forcerm": "1"}, None), ({"q": "maybe"}, None), ({"zz": "unknown"}, None), ({"isolation": "default"}, None),
    ({"platform": "linux/amd64"}, None), ({"networkmode": "none"}, None), ({"extrahosts": "a:1.2.3.4"}, None), ({"cachefrom": '["none:1"]'}, None),
    ({"memory": "1"}, "Minimum memory limit allowed is 6MB"),
    ({"memory": "67108864", "memswap": "1"}, "Minimum memoryswap limit should be larger than memory limit, see usage"),
    ({"cpuperiod": "1"}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
    ({"cpuquota": "1"}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ({"cpusetcpus": "a-b"}, "Invalid value a-b for cpuset cpus: invalid format: a-b"),
    ({"shmsize": "-1"}, "SHM size can not be less than 0"),
    ({"networkmode": "nothere"}, "failed to set up container networking: network nothere not found"),
    ({"extrahosts": "a"}, 'bad format for add-host: "a"'), ({"extrahosts": "a:zz"}, 'invalid IP address in add-host: "zz"'),
]


@pytest.mark.parametrize(("query", "message"), AT_THE_STEP)
def test_parameters_of_steps_as_dockerd_takes_them(engine, query, message):
    done = build(engine, "FROM busybox\nRUN true\n", nocache="1", **query)
    assert (done.status, done.error or None) == (200, message)


def test_a_name_given_twice_is_told_once(engine):
    done = build(engine, "FROM busybox\nLABEL twice=yes\n", t=["twice:1", "twice:1"])
    assert done.text.count("Successfully tagged twice:1\n") == 1
    engine.api("DELETE", "/images/twice:1")


@pytest.mark.parametrize(("text", "query", "status", "message"), REFUSED)
def test_refused_before_the_first_step(engine, text, query, status, message):
    done = build(engine, text, **query)
    assert done.status == status
    assert message is None or done.refusal == message
    until(lambda: build_folders(engine) == [], lambda: f"the end of {build_folders(engine)}")  # nobody waits for it


FAILED = [
    ("COPY nope /x", "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"),
    ("COPY ../etc /x", "COPY failed: forbidden path outside the build context: ../etc ()"),
    ("COPY zz* /x/", "COPY failed: no source files were specified"),
    ("COPY a.txt d /x", "When using COPY with more than one source file, the destination must be a directory and end with a /"),
    ("COPY --from=busybox /nope /x", "COPY failed: stat nope: file does not exist"),
    ("RUN --mount=type=cache,target=/x echo", "the --mount option requires BuildKit. Refer to "
     "https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"),
    ("ENV ${Q}=1", "invalid environment variable: =1"),
    ("EXPOSE foo", "Invalid containerPort: foo"),
    ("STOPSIGNAL foo", "invalid signal: foo"),
    ('RUN ["/nonexist"]', "failed to create task for container: failed to create shim task: OCI runtime create failed: runc "
     "create failed: unable to start container process: error during container init: exec: \"/nonexist\": stat /nonexist: no "
     "such file or directory"),
]


@pytest.mark.parametrize(("line", "message"), FAILED)
def test_failures_have_dockers_texts(engine, line, message):
    done = build(engine, f"FROM busybox\n{line}\n", forcerm="1")
    assert done.error == message
    assert engine.api("GET", "/containers/json?all=1").json == []


def test_from_host_and_from_nothing(engine):
    assert "cannot be built on" in build(engine, "FROM host\nRUN true\n").error
    assert build(engine, "FROM scratch\n").error == "No image was generated. Is your Dockerfile empty?"


def test_limits_and_network_of_steps(engine):
    done = build(engine, "FROM busybox\nRUN ls /sys/class/net; cat /proc/self/cgroup >/dev/null\n", nocache="1",
                 networkmode="none", memory=str(64 << 20))
    assert "lo\n" in done.text and "eth0" not in done.text


def test_steps_have_the_default_confinement(engine):
    done = build(engine, "FROM busybox\nRUN grep -E 'CapEff|Seccomp:' /proc/self/status\n", nocache="1")
    assert "Seccomp:\t2\n" in done.text
    effective = int(next(line for line in done.text.splitlines() if line.startswith("CapEff")).split()[1], 16)
    assert not effective & (1 << 21)  # CAP_SYS_ADMIN


def test_leaving_the_client_stops_the_build(engine, leaks):
    client = begin(engine, "FROM busybox\nRUN echo begun; sleep 1000\nRUN echo never\n")
    seen = b""
    while b"begun" not in seen:
        seen += client.recv(4096)
    client.close()
    until(lambda: engine.api("GET", "/containers/json?all=1").json == [] and build_folders(engine) == [], "the end of all of it")


def test_prune_takes_what_its_filters_choose(engine):
    first = build(engine, "FROM busybox\nRUN echo filtered\n", nocache="1").image
    short = first.removeprefix("sha256:")[:12]
    engine.api("POST", '/build/prune?all=1&filters={"until":["24h"]}')
    assert engine.api("GET", f"/images/{first}/json").status == 200
    engine.api("POST", '/build/prune?all=1&filters={"id":["000000000000"]}')
    assert engine.api("GET", f"/images/{first}/json").status == 200
    answer = engine.api("POST", f'/build/prune?all=1&filters={{"id":["{short}"]}}').json
    assert answer["CachesDeleted"] == [short]
    assert engine.api("GET", f"/images/{first}/json").status == 404
    older, newer = (build(engine, f"FROM busybox\nRUN head -c 1000000 /dev/urandom >/{text}\n", nocache="1").image
                    for text in ("older", "newer"))
    engine.api("POST", "/build/prune?max-used-space=1500000")
    assert [engine.api("GET", f"/images/{one}/json").status for one in (older, newer)] == [404, 200]
    engine.api("POST", "/build/prune?min-free-space=1000")
    assert engine.api("GET", f"/images/{newer}/json").status == 200, "as much is free already"
    engine.api("POST", f"/build/prune?min-free-space={1 << 60}&reserved-space=2000000")
    assert engine.api("GET", f"/images/{newer}/json").status == 200, "so much may stay whatever is free"
    engine.api("POST", f"/build/prune?min-free-space={1 << 60}")
    assert engine.api("GET", f"/images/{newer}/json").status == 404
    assert engine.api("POST", '/build/prune?filters={"type":["x"]}').json["CachesDeleted"] is None
    assert "invalid filter colour" in engine.api("POST", '/build/prune?filters={"colour":["x"]}').message


def test_a_build_is_cancelled_by_its_id(engine):
    client = begin(engine, "FROM busybox\nRUN echo begun; sleep 10000\n", "buildid=mine")
    seen = b""
    while b"begun" not in seen:
        seen += client.recv(4096)
    assert engine.api("POST", "/build/cancel").status == 400
    assert engine.api("POST", "/build/cancel?id=other").status == 200
    assert engine.api("POST", "/build/cancel?id=mine").status == 200
    while not seen.endswith(b"0\r\n\r\n"):
        seen += client.recv(4096)
    client.close()
    until(lambda: not engine.api("GET", "/containers/json?all=1").json, "the end of its container")


def test_prune_frees_what_only_the_cache_kept(engine):
    engine.api("POST", "/build/prune?all=1")
    before = {row["Id"] for row in engine.api("GET", "/images/json?all=1").json}
    build(engine, "FROM busybox\nRUN echo 1 >/1\nRUN echo 2 >/2\n", nocache="1")
    kept = build(engine, "FROM busybox\nRUN echo 3 >/3\n", nocache="1", t="kept").image
    found = engine.api("POST", "/build/prune?all=1").json
    assert len(found["CachesDeleted"]) == 3
    assert found["SpaceReclaimed"] > 0
    assert {row["Id"] for row in engine.api("GET", "/images/json?all=1").json} == before | {kept}
    assert "Using cache" not in build(engine, "FROM busybox\nRUN echo 1 >/1\n").text


def test_quiet_tells_the_id_only(engine):
    done = build(engine, "FROM busybox\nRUN echo noise\n", q="1")
    assert [list(message) for message in done.messages] == [["stream"]]
    assert done.text.startswith("sha256:") and done.text.endswith("\n")


def test_dockerignore_may_drop_the_dockerfile_itself(engine):
    files = {".dockerignore": b"Dockerfile\n.dockerignore\n", "a.txt": b"x"}
    done = build(engine, "FROM busybox\nCOPY . /c/\nRUN ls -A /c\n", files=files, nocache="1")
    assert "a.txt\n" in done.text and "ockerfile\n" not in done.text.partition("Running in")[2]


def test_events_tell_the_image_and_the_tag(engine):
    since = time.time()
    done = build(engine, "FROM busybox\nLABEL a=b\n", t="evented", nocache="1")
    answer = engine.api("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    told = [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]["name"])
            for event in map(json.loads, answer.body.splitlines()) if event["Type"] == "image"]
    assert told == [("create", done.image, done.image), ("tag", done.image, "evented:latest")]


def test_a_file_of_another_name_is_not_found_in_the_cache(engine):
    files = {"one": b"the same\n", "two": b"the same\n"}
    build(engine, "FROM busybox\nCOPY one /into/\n", files)
    again = build(engine, "FROM busybox\nCOPY two /into/\nRUN cat /into/two\n", files)
    assert again.error == "" and "Using cache" not in again.text
