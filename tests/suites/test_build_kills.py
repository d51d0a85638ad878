"""kill -9 of the daemon while a build's cache goes out or comes in, and while a kept folder is brought up to date.

Each time: the client ends, the next daemon builds the same, and what the dead one left can be made free.
"""

import contextlib
import hashlib
import os
import time

import pytest
from build_command import Builder, kept, until
from registry_server import running_registry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BIG = "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=6 && md5sum </big >/sum\nRUN cp /sum /again\n"
DELAYS = (0.0, 0.1)


@pytest.fixture
def builder(own_engine, tmp_path):
    return Builder(own_engine, tmp_path)


@contextlib.contextmanager
def places(kind, folder):
    """(value of --cache-to, value of --cache-from) of a cache somewhere new each time the function is called."""
    with running_registry() if kind == "registry" else contextlib.nullcontext() as registry:
        def place(number):
            if registry:
                name = f"{registry.host}/team/cache:{number}"
                return f"type=registry,ref={name},mode=max", f"type=registry,ref={name}"
            return f"type=local,dest={folder}/cache{number},mode=max", f"type=local,src={folder}/cache{number}"
        yield place


def kill_at(builder, marker, delay, dockerfile, *flags):
    """A build, and kill -9 of the daemon `delay` seconds after a line with `marker`; then another daemon."""
    process = builder.start(dockerfile, *flags)
    seen = ""
    try:
        for line in process.stderr:
            seen += line
            if marker in line:
                break
        else:
            raise AssertionError(f"no {marker}: {seen}")
        time.sleep(delay)
        builder.engine.kill()
        process.stderr.read()
        process.wait(60)
    finally:
        process.kill()
        process.stderr.close()
    builder.engine.start()


def frees_all(builder, before):
    builder.forget("busybox:latest")
    until(lambda: kept(builder.engine) <= before, lambda: f"left: {kept(builder.engine) - before}")


@pytest.mark.parametrize("kind", ["registry", "local"])
def test_while_a_cache_goes_out(builder, tmp_path, kind):
    before = kept(builder.engine)
    with places(kind, tmp_path) as place:
        builder.build(BIG, "-t", "big:1")
        wanted = builder.run("big:1", "cat", "/again")
        for number, delay in enumerate(DELAYS):
            to, source = place(number)
            kill_at(builder, "exporting cache to", delay, BIG, "--cache-to", to)
            builder.build(BIG, "--cache-from", source)  # half a cache, or none, is no obstacle
            builder.build(BIG, "-t", "big:1", "--cache-to", to)
            assert builder.run("big:1", "cat", "/again") == wanted
        builder.forget("busybox:latest")
        assert builder.build(BIG, "-t", "big:1", "--cache-from", place(len(DELAYS) - 1)[1]).count("CACHED") == 2
        assert builder.run("big:1", "cat", "/again") == wanted
    frees_all(builder, before)


@pytest.mark.parametrize("kind", ["registry", "local"])
def test_while_a_cache_comes_in(builder, tmp_path, kind):
    before = kept(builder.engine)
    with places(kind, tmp_path) as place:
        to, source = place(0)
        builder.build(BIG, "-t", "big:1", "--cache-to", to)
        wanted = builder.run("big:1", "cat", "/again")
        for delay in DELAYS:
            builder.forget("busybox:latest")
            kill_at(builder, "importing cache manifest", delay, BIG, "--cache-from", source)
            assert builder.build(BIG, "-t", "big:1", "--cache-from", source).count("CACHED") == 2
            assert builder.run("big:1", "cat", "/again") == wanted
    frees_all(builder, before)


def test_while_a_kept_folder_is_brought_up_to_date(builder):
    before = kept(builder.engine)
    text = "FROM busybox\nCOPY . /context\nRUN cd /context && ls | sort | xargs cat | md5sum >/sum\n"

    def write(number):
        for at in range(0, 400, number):
            (builder.context / f"f{at:04}").write_text(f"{number} {at}\n" * 50)
        (builder.context / f"f{number:04}").unlink()

    write(1)
    builder.build(text, "-t", "sum:1")
    for number, delay in enumerate(DELAYS, 2):
        write(number)
        kill_at(builder, "load build context", delay, text)
        write(number)
        builder.build(text, "-t", "sum:1")
        data = b"".join(path.read_bytes() for path in sorted(builder.context.iterdir()))
        assert builder.run("sum:1", "cat", "/sum").split()[0] == hashlib.md5(data).hexdigest()
    frees_all(builder, before)


def test_while_a_step_has_a_secret(builder, tmp_path):
    secret = f"opened-by-{os.urandom(8).hex()}"
    (tmp_path / "token").write_text(secret)
    before = kept(builder.engine)
    text = "FROM busybox\nRUN --mount=type=secret,id=t --mount=type=secret,id=t,env=T test -n \"$T\" && echo begun && sleep 1000\n"
    kill_at(builder, " begun", 0.0, text, "--secret", f"id=t,src={tmp_path}/token")
    builder.engine.clear()

    def found():
        places = []
        for folder, _, files in os.walk(builder.engine.folder):
            for name in files:
                with contextlib.suppress(OSError), open(f"{folder}/{name}", "rb") as file:
                    places += [f"{folder}/{name}"] if secret.encode() in file.read() else []
        return places

    until(lambda: not found(), lambda: f"the secret lies in {found()}")
    frees_all(builder, before)
