"""What makes docker buildx do a step again: the files below it, what it brings, what it runs with; and nothing else."""

import os

import pytest

ONCE = "cat /proc/sys/kernel/random/uuid >/"  # what tells one run from another


def inspect(client, image):
    return client.engine.api("GET", f"/images/{image}/json").json


def layers(client, image):
    return inspect(client, image)["RootFS"]["Layers"]


def two(client, first, second, *flags):
    """The layers of two builds."""
    client.build(first, "-t", "keys:1", *flags)
    client.build(second, "-t", "keys:2", *flags)
    return layers(client, "keys:1"), layers(client, "keys:2")


def test_a_label_above_changes_no_layer(client):
    client.write(data="added\n")
    text = "FROM busybox\nLABEL state={0}\nADD data /d/\nEXPOSE 8{0}\nRUN " + ONCE + "once\nWORKDIR /w\nCMD [\"{0}\"]\nCOPY data .\n"
    one, other = two(client, text.format(1), text.format(2))
    assert one == other and len(one) == 5
    found = inspect(client, "keys:2")
    assert found["Config"]["Labels"] == {"state": "2"} and list(found["Config"]["ExposedPorts"]) == ["82/tcp"]
    assert found["Config"]["Cmd"] == ["2"] and found["Config"]["WorkingDir"] == "/w"
    history = [row["CreatedBy"] for row in client.engine.api("GET", "/images/keys:2/history").json]
    assert "LABEL state=2" in history and not any("state=1" in line for line in history)
    assert client.run("keys:2", "cat", "/d/data") == "added\n"


def test_the_same_build_is_the_same_image_after_another(client):
    text = "FROM busybox\nLABEL state={}\nRUN " + ONCE + "once\n"
    client.build(text.format(1), "-t", "keys:1")
    first = inspect(client, "keys:1")["Id"]
    client.build(text.format(2), "-t", "keys:1")
    second = inspect(client, "keys:1")["Id"]
    client.engine.docker("image", "prune", "-f")  # the first has no name any more
    told = client.build(text.format(2), "-t", "keys:1")
    assert "CACHED" in told and inspect(client, "keys:1")["Id"] == second != first
    client.build(text.format(1), "-t", "keys:2")
    assert layers(client, "keys:1") == layers(client, "keys:2")


@pytest.mark.parametrize("line", ["ENV A={}", "USER {}", "WORKDIR /tmp/{}", 'SHELL ["/bin/sh", "-c", "exec sh -c \\"$0\\" {}"]', "ARG A={}"])
def test_what_a_command_runs_with_makes_it_again(client, line):
    text = f"FROM busybox\nRUN mkdir -p -m 777 /tmp/1 /tmp/2 /o\n{line}\nRUN {ONCE}o/once\n"
    one, other = two(client, text.format(1), text.format(2))
    assert one[:2] == other[:2] and one[-1] != other[-1]
    assert two(client, text.format(1), text.format(1))[0] == one


def test_how_the_caller_has_commands_run_makes_them_again(client):
    text = f"FROM busybox\nRUN {ONCE}once\n"
    one, _ = two(client, text, text)
    other, again = two(client, text, text, "--add-host", "other:10.0.0.1")
    assert one != other == again
    assert two(client, text, text, "--network", "none")[0] not in (one, other)


def test_an_environment_leaves_what_is_copied(client):
    client.write(data="copied\n")
    text = "FROM busybox\nENV A={}\nCOPY data /\nUSER {}\nADD data /d/\n"
    one, other = two(client, text.format(1, 1), text.format(2, 2))
    assert one == other


CHANGES = {"permissions": "chmod 600 /d/a", "owner": "chown 7 /d/a", "links": "rm /d/b; ln /d/a /d/b",
           "a link's target": "rm /d/s; ln -s b /d/s", "a name": "mv /d/b /d/c", "content": "echo x >/d/a"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_from_a_stage_is_made_again(client, change):
    text = "FROM busybox AS one\nRUN mkdir /d; echo a >/d/a; echo a >/d/b; ln -s a /d/s{}\nFROM busybox\nCOPY --from=one /d /d\nRUN " + ONCE + "once\n"
    one, other = two(client, text.format(""), text.format("; " + CHANGES[change]))
    assert one[0] == other[0] and one[1] != other[1] and one[2] != other[2]


def test_times_and_what_is_beside_change_nothing(client):
    text = "FROM busybox AS one\nRUN mkdir /d; echo a >/d/a; touch -d 2001-01-01 /d/a{}\nFROM busybox\nCOPY --from=one /d /d\n"
    one, other = two(client, text.format(""), text.format("; touch /d/a; echo beside >/e"))
    assert one == other


def test_an_attribute_makes_a_copy_again(client):
    client.write(data="the same\n")
    text = "FROM scratch\nCOPY data /\n"
    client.build(text, "-t", "keys:1")
    os.setxattr(client.context / "data", "user.colour", b"blue")
    client.build(text, "-t", "keys:2")
    assert layers(client, "keys:1") != layers(client, "keys:2")


def test_a_mount_of_a_stage_counts_by_its_files(client):
    text = "FROM busybox AS one\nLABEL state={}\nRUN echo {} >/f\nFROM busybox\nRUN --mount=from=one,target=/m " + ONCE + "once\n"
    one, other = two(client, text.format(1, 1), text.format(2, 1))
    assert one == other
    assert two(client, text.format(1, 1), text.format(1, 2))[1] != one


def test_no_cache_of_a_stage_does_that_stage_again(client):
    text = "FROM busybox AS one\nRUN " + ONCE + "one\nFROM one AS last\nLABEL state={}\nRUN " + ONCE + "two\n"
    one, _ = two(client, text.format(1), text.format(1))
    client.build(text.format(2), "-t", "keys:3", "--no-cache-filter", "last")
    found = layers(client, "keys:3")
    assert found[:2] == one[:2] and found[2] != one[2]
    client.build(text.format(3), "-t", "keys:4")  # and what was done last is what is known
    assert layers(client, "keys:4") == found


def test_an_imported_step_gets_this_builds_configuration(client, tmp_path):
    text = "FROM busybox\nLABEL state={}\nRUN " + ONCE + "once\n"
    client.build(text.format(1), "-t", "keys:1", "--cache-to", f"type=local,dest={tmp_path}/c,mode=max")
    made = client.run("keys:1", "cat", "/once")
    client.engine.docker("rmi", "keys:1")
    client.engine.docker("builder", "prune", "-af")
    told = client.build(text.format(2), "-t", "keys:2", "--cache-from", f"type=local,src={tmp_path}/c")
    assert "CACHED" in told and client.run("keys:2", "cat", "/once") == made
    assert inspect(client, "keys:2")["Config"]["Labels"] == {"state": "2"}


def test_the_classic_builder_goes_by_the_image_before(client, monkeypatch):
    """As docker's: LABEL is a step of its own, and what follows another one is done again."""
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")  # whatever plugins the machine has
    client.write(data="copied\n")
    ids = []
    for state in "121":
        client.write(Dockerfile=f"FROM busybox\nLABEL state={state}\nCOPY data /\nRUN {ONCE}once\n")
        done = client.engine.docker("build", "-t", f"keys:{state}", str(client.context), timeout=280)
        ids.append((inspect(client, f"keys:{state}")["Id"], done.stdout.count("Using cache")))
    assert ids[0][0] == ids[2][0] != ids[1][0] and [count for _, count in ids] == [0, 0, 3]
    assert layers(client, "keys:1")[-1] != layers(client, "keys:2")[-1]
