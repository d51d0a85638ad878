"""What COPY, ADD and RUN can say: parents, excludes, modes, owners, links, URLs, git, archives, programs in heredocs."""

import functools
import hashlib
import http.server
import os
import subprocess
import threading

import pytest
from build_context import archive, build

FILES = {
    "d": None, "d/a.txt": b"a", "d/e.md": b"e", "d/sub": None, "d/sub/b.txt": b"b", "d/sub/c.md": b"c",
    "d/sub/deep": None, "d/sub/deep/f.txt": b"f", "top.txt": b"t",
}
LIST = "RUN cd /x && find . | sort | tr '\\n' ' '\n"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of what it is asked."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A web server; `folder` is what it shows, `url` where."""
    folder = tmp_path_factory.mktemp("web")
    handler = functools.partial(Quiet, directory=str(folder))
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    web.folder, web.url = folder, f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield web
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.fixture(scope="module")
def repository(server):
    """A repository with a branch `other` at `server.url`/repo.git; `commit` is its HEAD's name."""
    work = server.folder / "work"
    (work / "app").mkdir(parents=True)
    (work / "readme").write_text("main\n")
    (work / "app" / "Dockerfile").write_text("FROM busybox\nCOPY made /made\nRUN cat /made\n")
    (work / "app" / "made").write_text("from git\n")

    def git(*words, where=work):
        return subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], cwd=where, check=True,
                              capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main", ".")
    git("add", ".")
    git("commit", "-qm", "one")
    server.commit = git("rev-parse", "HEAD")
    git("checkout", "-qb", "other")
    (work / "readme").write_text("other\n")
    git("commit", "-qam", "two")
    git("checkout", "-q", "main")
    git("clone", "-q", "--bare", str(work), str(server.folder / "repo.git"), where=server.folder)
    git("update-server-info", where=server.folder / "repo.git")
    return server


def listed(engine, line):
    """What a COPY brought to /x."""
    done = build(engine, f"FROM busybox\n{line}\n{LIST}", files=FILES, nocache="1")
    assert not done.error, done.error
    return done.text.partition("Running in")[2].partition("\n")[2].split("\n")[0].split(" --->")[0].split()


# As BuildKit copied them; `.` is /x itself.
COPIES = [
    ("COPY --exclude=*.txt d /x/", ". ./e.md ./sub ./sub/b.txt ./sub/c.md ./sub/deep ./sub/deep/f.txt"),
    ("COPY --exclude=**/*.txt d /x/", ". ./e.md ./sub ./sub/c.md ./sub/deep"),
    ("COPY --exclude=sub d /x/", ". ./a.txt ./e.md"),
    ("COPY --exclude=**/*.txt --exclude=!**/b.txt d /x/", ". ./e.md ./sub ./sub/b.txt ./sub/c.md ./sub/deep"),
    ("COPY --parents d/sub/b.txt top.txt /x/", ". ./d ./d/sub ./d/sub/b.txt ./top.txt"),
    ("COPY --parents d/./sub/b.txt /x", ". ./sub ./sub/b.txt"),
    ("COPY --parents d/**/*.txt /x/", ". ./d ./d/a.txt ./d/sub ./d/sub/b.txt ./d/sub/deep ./d/sub/deep/f.txt"),
    ("COPY --parents d/./sub /x/", ". ./sub ./sub/b.txt ./sub/c.md ./sub/deep ./sub/deep/f.txt"),
    ("COPY --parents ./d/*/*.md /x/", ". ./d ./d/sub ./d/sub/c.md"),
    ("COPY --link d/sub/deep /x/", ". ./f.txt"),
]


@pytest.mark.parametrize(("line", "paths"), COPIES)
def test_which_files_are_copied(engine, line, paths):
    assert listed(engine, line) == paths.split()


def test_equal_files_of_other_names_are_no_equal_steps(engine):
    files = {"one": b"same", "two": b"same"}
    build(engine, "FROM busybox\nCOPY one /n/\n", files=files)
    done = build(engine, "FROM busybox\nCOPY two /n/\nRUN ls /n\n", files=files)
    assert "two\n" in done.text and "one\n" not in done.text


def test_modes_owners_and_new_folders(engine):
    done = build(engine, """FROM busybox
RUN echo web:x:33:44::/: >>/etc/passwd && echo staff:x:50: >>/etc/group
COPY --chmod=u=rwX,go=rX --chown=web:staff d /x/
COPY --chmod=711 top.txt /q/w/f
COPY --chown=web top.txt /own/f
RUN stat -c '%n %a %u:%g' /x /x/a.txt /x/sub /q /q/w /q/w/f /own /own/f
""", files=FILES, nocache="1")
    assert not done.error
    assert ("/x 755 33:50\n/x/a.txt 644 33:50\n/x/sub 755 33:50\n/q 711 0:0\n/q/w 711 0:0\n/q/w/f 711 0:0\n"
            "/own 755 33:44\n/own/f 644 33:44\n") in done.text


def test_urls_are_fetched_checked_and_private(engine, server):
    (server.folder / "file.txt").write_text("fetched\n")
    (server.folder / "tree.tar.gz").write_bytes(archive({"in/f": b"inner\n"}, "gz", owner=7))
    os.utime(server.folder / "file.txt", (1_000_000_000, 1_000_000_000))
    digest = hashlib.sha256(b"fetched\n").hexdigest()
    done = build(engine, f"""FROM busybox
ADD --checksum=sha256:{digest} {server.url}/file.txt?x=y /x/
ADD --chmod=644 {server.url}/file.txt /named
ADD {server.url}/tree.tar.gz /packed/
ADD --unpack=true {server.url}/tree.tar.gz /unpacked/
RUN stat -c '%n %a %Y' /x/file.txt /named; ls /packed /unpacked/in; stat -c %u /unpacked/in/f
""", nocache="1")
    assert not done.error
    assert "/x/file.txt 600 1000000000\n/named 644 1000000000\n/packed:\ntree.tar.gz\n\n/unpacked/in:\nf\n7\n" in done.text


@pytest.mark.parametrize(("line", "problem"), [
    ("ADD --checksum=sha256:" + "0" * 64 + " {url}/work/readme /x", "digest mismatch sha256:"),
    ("ADD --checksum=md5:1 {url}/work/readme /x", "invalid checksum digest format: md5:1"),
    ("ADD --checksum=sha256:1 d /x", "checksum requires HTTP(S) or Git sources"),
    ("ADD {url}/nothing /x", "failed to GET {url}/nothing with status 404"),
    ("COPY {url}/work/readme /x", "source can't be a URL for COPY"),
    ("COPY git@host:repo /x", "source can't be a git ref for COPY"),
    ("ADD {url}/repo.git#nope /x", "failed to fetch remote: git fetch"),
    ("ADD {url}/repo.git?what=1 /x", 'unexpected query "what"'),
    ("ADD --checksum=abcdef0 {url}/repo.git /x", "expected checksum to match abcdef0, got "),
    ("COPY --chmod=9 top.txt /x", "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777"),
    ("COPY --parents d/nothing /x/", "stat d/nothing: file does not exist"),
])
def test_what_cannot_be_copied_is_said(engine, repository, line, problem):
    done = build(engine, f"FROM busybox\n{line.format(url=repository.url)}\n", files=FILES)
    assert problem.format(url=repository.url) in done.error


def test_repositories_branches_folders_and_commits(engine, repository):
    url, commit = f"{repository.url}/repo.git", repository.commit
    done = build(engine, f"""FROM busybox
ADD {url} /main
ADD {url}#other /other
ADD {url}#main:app /app
ADD --keep-git-dir=true --checksum={commit} {url} /kept
ADD {url}?commit={commit[:12]} /query
RUN cat /main/readme /other/readme /query/readme; ls /app; ls -d /main/.git /kept/.git || true
""", nocache="1")
    assert not done.error
    assert "main\nother\nmain\nDockerfile\nmade\n" in done.text
    assert "/kept/.git\n" in done.text and "\n/main/.git\n" not in done.text


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
def test_archives_of_every_kind_are_unpacked(engine, compression):
    if compression == "zst":
        import zstandard

        packed = zstandard.ZstdCompressor().compress(archive({"f": b"inner\n"}))
    else:
        packed = archive({"f": b"inner\n"}, compression)
    done = build(engine, "FROM busybox\nADD a.tar /x/\nADD --unpack=false a.tar /y/\nADD --chown=5:6 a.tar /z/\n"
                         "RUN cat /x/f; ls /y; stat -c %u:%g /z/f\n", files={"a.tar": packed}, nocache="1")
    assert "inner\na.tar\n5:6\n" in done.text, done.error


def test_a_heredoc_may_be_a_program(engine):
    done = build(engine, "FROM busybox\nRUN <<PROG\n#!/bin/awk -f\nBEGIN { print \"awk\", 6*7 }\nPROG\n"
                         "RUN <<-E\n\techo a\n\t\techo $0\n\tE\nRUN cat <<A >/a && cat <<B >/b\n1\nA\n2\nB\nRUN cat /a /b\n"
                         "RUN test ! -e /dev/pipes\n", nocache="1")
    assert not done.error
    assert "awk 42\n" in done.text and "a\n/bin/sh\n" in done.text and "1\n2\n" in done.text


def test_heredocs_of_base_images(engine):
    build(engine, "FROM busybox\nONBUILD RUN <<E\necho $((1+1)) from the base\nE\nONBUILD COPY top.txt /x/\n", t="hereonbuild")
    done = build(engine, "FROM hereonbuild\nRUN cat /x/top.txt\n", files=FILES, nocache="1")
    assert "2 from the base\n" in done.text and not done.error


def test_contexts_from_elsewhere(engine, repository):
    url = repository.url
    (repository.folder / "Plain").write_text("FROM busybox\nRUN echo from a file alone\n")
    (repository.folder / "context.tar.gz").write_bytes(
        archive({"sub/Other": b"FROM busybox\nCOPY made /\nRUN cat /made\n", "made": b"from an archive\n"}, "gz"))
    (repository.folder / "page.html").write_text("<html>")
    assert "from git\n" in build(engine, "", remote=f"{url}/repo.git#main:app", nocache="1").text
    assert "from a file alone\n" in build(engine, "", remote=f"{url}/Plain", nocache="1").text
    packed = build(engine, "", remote=f"{url}/context.tar.gz", dockerfile="sub/Other", nocache="1")
    assert "from an archive\n" in packed.text, packed.refusal or packed.error
    assert 'unsupported Content-Type "text/html"' in build(engine, "", remote=f"{url}/page.html").refusal
    assert "status 404" in build(engine, "", remote=f"{url}/absent").refusal
    assert "failed to fetch remote" in build(engine, "", remote=f"{url}/absent.git").refusal
