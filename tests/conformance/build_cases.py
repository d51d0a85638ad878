"""Dockerfiles that show one rule each, their contexts, and how an image is looked at: files, configuration, history.

What BuildKit in a dockerd made of them is in build_cases.json (record_builds.py writes it); tests/clients compares.
"""

import bz2
import functools
import gzip
import hashlib
import io
import tarfile
import urllib.parse

FILES = {
    "a.txt": b"a\n", "b.txt": b"b\n", "run.sh": b"#!/bin/sh\necho ran\n", "d/one": b"1\n", "d/two.md": b"2\n",
    "d/sub/three": b"3\n", "d/sub/four.md": b"4\n", ".hidden": b"h\n", "space name": b"s\n",
}

CASES = {  # name: (Dockerfile, files besides FILES, build arguments)
    "env": ("FROM busybox\nENV A=1 B=\"two words\" C='$A'\nENV D=$A E=${A}x F=a\\ b\nENV OLD the rest\nENV A=2 G=$A\n", {}, {}),
    "labels": ('FROM busybox\nLABEL a=1 "b c"="d e" f=\'g\'\nARG V=val\nLABEL v=$V multi="x\\\ny"\nLABEL a=2\n', {}, {}),
    "arguments": ("ARG BASE=busybox\nARG G=global\nFROM $BASE\nARG G\nARG L=local\nARG N\nARG O=default\n"
                  "ENV OUT=$G-$L-$N-$O-$X\nRUN echo $G $L $N $O >/out\n", {}, {"O": "given", "N": "also"}),
    "patterns": ("FROM busybox\nENV P=/usr/local/bin:/x E=\nENV A=${P#/usr} B=${P##*/} C=${P%/*} D=${P%%:*} F=${P/local/L} "
                 "G=${P//\\//_} H=${E:-d} I=${E-d} J=${E:+w} K=${E+w} L=${Z:-z} M=${Z:+z}\n", {}, {}),
    "platform": ("FROM --platform=$BUILDPLATFORM busybox\nARG TARGETOS TARGETARCH BUILDPLATFORM TARGETSTAGE\n"
                 "ENV OS=$TARGETOS SAME=${BUILDPLATFORM%/*}\nRUN echo $TARGETOS $TARGETSTAGE >/os\n", {}, {}),
    "workdir": ("FROM busybox\nENV W=w\nWORKDIR /a\nWORKDIR b/$W\nRUN pwd >here\nWORKDIR ../c/\nCOPY a.txt ./\nWORKDIR /\n", {}, {}),
    "user": ("FROM busybox\nRUN mkdir -m 777 /w\nUSER daemon\nRUN id -u >/w/id\nWORKDIR /made\nCOPY a.txt .\nUSER 12:34\n"
             "RUN id -g >/w/gid\n", {}, {}),
    "ports": ("FROM busybox\nARG P=90\nEXPOSE 80 $P/udp 8000-8002 443/tcp\nEXPOSE 80/tcp\nVOLUME /data /x\n"
              "VOLUME [\"/v 1\", \"/v2\"]\nSTOPSIGNAL SIGUSR1\n", {}, {}),
    "health": ("FROM busybox\nHEALTHCHECK --interval=1m30s --timeout=2s --start-period=5s --start-interval=500ms --retries=4 "
               "CMD true || exit 1\n", {}, {}),
    "health_exec": ('FROM busybox\nHEALTHCHECK CMD ["true", "x y"]\n', {}, {}),
    "health_none": ("FROM busybox\nHEALTHCHECK CMD true\nHEALTHCHECK NONE\n", {}, {}),
    "shell": ('FROM busybox\nSHELL ["/bin/sh", "-ec"]\nRUN echo $0 >/zero\nCMD echo $A\nENTRYPOINT exec\nSHELL ["/bin/ash"]\n', {}, {}),
    "programs": ('FROM busybox\nCMD ["a", "b c"]\nENTRYPOINT ["/e"]\nRUN ["/bin/touch", "/made $A"]\n', {}, {}),
    "program_forms": ('FROM busybox\nCMD [ "single\nENTRYPOINT []\nCMD []\n', {}, {}),
    "entrypoint_resets": ('FROM busybox AS base\nCMD ["kept"]\nFROM base\nENTRYPOINT ["/e"]\n', {}, {}),
    "volume_keeps": ("FROM busybox\nVOLUME /v /w\nRUN mkdir -p /v && echo kept >/v/f\nCOPY a.txt /w/\n", {}, {}),
    "maintainer": ("FROM busybox\nMAINTAINER some one <x@y>\n", {}, {}),
    "copy": ("FROM busybox\nCOPY a.txt b.txt /x/\nCOPY a.txt /y/renamed\nCOPY d /z\nCOPY d/ /z2/\nCOPY . /all/\nCOPY *.txt /w/\n"
             'COPY ["space name", "/s p/"]\nCOPY d/* /flat/\nCOPY d/sub /x/\n', {}, {}),
    "copy_over": ("FROM busybox\nCOPY a.txt /o/one\nCOPY d /o/\nRUN chmod 700 /o/sub && chown 5:6 /o/sub /o\nCOPY d /o\n"
                  "COPY b.txt /o/one\nRUN ln -s /o/sub /link\nCOPY a.txt /link/\n", {}, {}),
    "copy_links": ("FROM busybox\nCOPY to_a to_d /l/\nCOPY . /k/\nCOPY to_d/one /one\n", {
        "to_a": ("link", "a.txt"), "to_d": ("link", "d"), "d/up": ("link", "../a.txt"), "dangling": ("link", "/none")}, {}),
    "chown": ("FROM busybox\nRUN echo web:x:33:44::/: >>/etc/passwd && echo staff:x:50: >>/etc/group\n"
              "COPY --chown=web a.txt /u\nCOPY --chown=web:staff d /ug\nCOPY --chown=7 a.txt /n/m/f\nCOPY --chown=7:8 d /nn/\n"
              "ARG WHO=9:9\nCOPY --chown=$WHO a.txt /v\nADD --chown=web a.txt /add\n", {}, {}),
    "chmod": ("FROM busybox\nCOPY --chmod=755 a.txt /a\nCOPY --chmod=0700 d /d\nCOPY --chmod=4711 a.txt /s\n"
              "COPY --chmod=u=rwX,go=rX d /sym\nCOPY --chmod=+x a.txt /plus\nCOPY --chmod=711 a.txt /new/way/\nARG M=640\n"
              "COPY --chmod=$M a.txt /v\n", {}, {}),
    "exclude": ("FROM busybox\nCOPY --exclude=*.md d /one\nCOPY --exclude=**/*.md d /two\nCOPY --exclude=sub d /three\n"
                "COPY --exclude=*.md --exclude=sub/three d /four\nADD --exclude=one d /five\n", {}, {}),
    "link": ("FROM busybox\nCOPY --link d /l/\nCOPY --link --chown=3:4 a.txt /m/n\nCOPY --link --from=busybox /etc/group /g\n", {}, {}),
    "stages": ("FROM busybox AS one\nRUN mkdir /o && echo x >/o/x && chown 5:6 /o /o/x && chmod 2750 /o\nENV ONE=1\n"
               "FROM one AS two\nRUN echo y >/o/y\nFROM busybox AS unused\nRUN false\nFROM busybox\nCOPY --from=one /o /a\n"
               "COPY --from=two /o/y /o/x /b/\nCOPY --from=0 --chown=1 /o/x /c\nCOPY --from=busybox /etc/group /g\n", {}, {}),
    "stage_inherits": ("FROM busybox AS base\nENV A=1\nLABEL l=1\nWORKDIR /w\nUSER 5\nEXPOSE 1\nCMD [\"c\"]\nARG IN=x\n"
                       "FROM base\nENV B=$A$IN\nRUN id -u >/tmp/u && pwd >/tmp/p\n", {}, {}),
    "onbuild": ("FROM busybox AS base\nONBUILD COPY a.txt /on/\nONBUILD RUN echo built >/on/b\nONBUILD ENV ON=1\nRUN echo base >/base\n"
                "FROM base\nRUN cat /on/a.txt /on/b >/seen\n", {}, {}),
    "onbuild_kept": ("FROM busybox\nONBUILD RUN echo one\nONBUILD COPY [\"a\", \"b\"]\n", {}, {}),
    "run": ("FROM busybox\nRUN echo 1 >/f && rm /etc/group && mkdir -p /new/deep && ln -s f /l && ln f /hard && chmod 1777 /new\n"
            "RUN rm -r /new && echo more >>/f\nRUN mkfifo /fifo && touch -d @0 /old && chown 1:2 /old && chmod 4755 /old\n", {}, {}),
    "run_environment": ("FROM busybox\nARG SECRETLY=1\nENV PATH=/x:$PATH HOME=/h\nRUN env | grep -v ^HOSTNAME= "
                        "| sort >/env\n", {}, {}),
    "heredocs": ("FROM busybox\nENV V=val\nRUN <<E\necho one >/one\necho $V >>/one\nE\nRUN <<-'E'\n\techo tab >/two\n\tE\n"
                 "RUN cat <<A >/three && cat <<-B >/four\nx $V\nA\n\ty\nB\nRUN <<P\n#!/bin/awk -f\nBEGIN { print 6*7 >\"/five\" }\nP\n"
                 "COPY <<X <<'Y' <<-Z /h/\nv $V ${V%l} \\$V \"q\" a\\\\b\nX\nv $V\nY\n\ttabbed\nZ\n"
                 "COPY --chmod=700 --chown=1:2 <<FILE /single\nbody\nFILE\nADD <<N a.txt /mixed/\nn\nN\n", {}, {}),
    "escape": ("# escape=`\nFROM busybox\nENV A=c:\\x B=`$A\nRUN echo `\n  joined `\n# comment\n  >/j\n", {}, {}),
    "continued": ("\n# a comment\nfrom busybox\n  run echo a \\\n  # inside\n    && echo b \\\n\n    >/x\n"
                  "Env A=1 \\\n    B=2\n", {}, {}),
    "archives": ("FROM busybox\nADD t.tar /t/\nADD t.tar.gz t.tar.bz2 /p/\nCOPY t.tar.gz /c/\nADD --chown=3:4 t.tar /o/\n"
                 "ADD not.gz /n/\n", {}, {}),
    "ignored": ("FROM busybox\nCOPY . /c/\n", {".dockerignore": b"# comment\n*.md\n**/*.md\n!d/two.md\n.hidden\nspace*\n/run.sh\n"}, {}),
    "ignored_all": ("FROM busybox\nCOPY . /c/\n", {".dockerignore": b"*\n!d/sub\n"}, {}),
    "mounts": ("FROM busybox AS other\nRUN echo o >/o\nFROM busybox\nRUN --mount=target=/ctx cat /ctx/a.txt >/a\n"
               "RUN --mount=from=other,source=/o,target=/other cat /other >/b\nRUN --mount=type=tmpfs,target=/t touch /t/x\n"
               "RUN --mount=type=cache,target=/cache,id=conf echo c >/cache/c && cp /cache/c /c\n"
               "RUN --mount=type=bind,target=/ctx,rw rm /ctx/a.txt && ls /ctx | grep -c txt >/d\n"
               "RUN --network=none true\n", {}, {}),
    "scratch": ("FROM scratch\nCOPY a.txt /\nCOPY d /d\nENV A=1\nCMD [\"/a.txt\"]\n", {}, {}),
    "scratch_stage": ("FROM scratch AS s\nCOPY a.txt /x/y/z\nFROM s\nCOPY --from=s /x /copy\n", {}, {}),
    "json_copy": ('FROM busybox\nCOPY ["a.txt", "b.txt", "/j/"]\nADD ["d", "/k"]\nVOLUME ["/j"]\n', {}, {}),
    "link_over": ("FROM busybox\nRUN mkdir -m 700 /m && chown 3:4 /m && ln -s /m /sym && touch /file && mkdir /dir && touch /dir/in\n"
                  "COPY --link a.txt /m/a\nCOPY --link a.txt /sym/b\nCOPY --link a.txt /dir\nCOPY --link a.txt /file/c\nWORKDIR /w\n"
                  "COPY --link a.txt .\nCOPY --link a.txt /again\nCOPY --link a.txt /again\nUSER 5\n"
                  "COPY --link --chmod=711 a.txt /deep/er/f\nCOPY --link --exclude=*.md d /ex/\nADD --link a.txt /added\n"
                  "COPY --link --chown=root:root --chmod=u+x <<H /here\ntext\nH\nUSER 0\nRUN stat -c '%n %F %a %u' /m /sym >/seen\n", {}, {}),
    "unpack": ("FROM busybox\nADD --unpack=false t.tar /plain/\nADD --unpack=true t.tar.gz /out/\nADD --unpack=false --chmod=600 t.tar.bz2 /b\n",
               {}, {}),
    "add_flags": ("FROM busybox\nADD --chmod=750 --chown=1:2 --exclude=sub d /x/\nADD --link --chmod=go-r a.txt b.txt /y/\n"
                  "ADD --link --exclude=*.md d /z/\n", {}, {}),
    "cache_mounts": ("FROM busybox AS seed\nRUN mkdir /s && echo seed >/s/f\nFROM busybox\n"
                     "RUN --mount=type=cache,target=/c,id=conf-modes,mode=0701,uid=5,gid=6,sharing=locked stat -c '%a %u %g' /c >/one\n"
                     "RUN --mount=type=cache,target=/c,id=conf-seed,from=seed,source=/s,sharing=private cat /c/f >/two\n"
                     "RUN --mount=type=cache,target=/c,id=conf-ro,readonly touch /c/x 2>/three || echo refused >/four\n"
                     "RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2 >/five\n"
                     "RUN rm -f /three\n", {}, {}),
    "mount_variables": ("FROM busybox\nARG DIR=/there ID=conf-var\nRUN --mount=type=cache,id=$ID,target=$DIR/c touch $DIR/c/x && ls $DIR/c >/a\n"
                        "RUN --mount=type=bind,source=d/sub,target=/s ls /s >/b\nWORKDIR /rel\nRUN --mount=target=here ls here/d >/c\n"
                        "RUN --mount=type=bind,target=/one --mount=type=tmpfs,target=/two <<E\nls /one/d /two >/d\nE\n", {}, {}),
    "lent_nothing": ("FROM busybox\nRUN --mount=type=secret,id=none,target=/s,mode=0444 test ! -e /s && echo absent >/f\n"
                     "RUN --mount=type=secret,id=none,env=NONE echo \"[$NONE]\" >/g\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\" "
                     "|| echo set >/h\nRUN rm -f /h\n", {}, {}),
    "step_flags": ("FROM busybox\nRUN --network=none ip -o link | wc -l >/a\nRUN --network=default echo b >/b\n", {}, {}),
    "onbuild_flags": ("FROM busybox AS base\nONBUILD COPY --chown=7:8 --chmod=640 a.txt /o/\nONBUILD RUN --mount=target=/x cat /x/b.txt >/o/b\n"
                      "ONBUILD HEALTHCHECK --retries=2 CMD true\nFROM base\nRUN echo more >/o/m\n", {}, {}),
    "check_directive": ("# check=skip=all\nfrom busybox\nmaintainer x\nCMD a\nCMD b\n", {}, {}),
    "health_flags": ("FROM busybox\nARG T=3s\nHEALTHCHECK --interval=0s --timeout=3s --start-interval=1s --retries=0 CMD [\"a\"]\n", {}, {}),
    "many_arguments": ("ARG A=1 B C=$A\nFROM busybox\nARG A B C D=$C-$A E=\"x y\"\nENV ALL=\"$A,$B,$C,$D,$E\"\nARG A=2\nENV LAST=$A\n", {}, {"B": "b"}),
    "stage_platform": ("FROM --platform=linux/amd64 busybox AS one\nRUN echo 1 >/1\nFROM --platform=$TARGETPLATFORM one\nCOPY --from=one /1 /2\n", {}, {}),
    "user_forms": ("FROM busybox\nRUN echo web:x:33:44::/: >>/etc/passwd && echo staff:x:50: >>/etc/group && mkdir -m 777 /w\nUSER web:staff\n"
                   "RUN id -un >/w/a && id -g >>/w/a\nUSER 33:50\nRUN id -u >/w/b && id -g >>/w/b\nUSER web\nWORKDIR /w/c\nRUN touch f\n", {}, {}),
    "shell_heredoc": ("FROM busybox\nSHELL [\"/bin/sh\", \"-xec\"]\nRUN <<E\necho $0 >/a\nE\nRUN <<E cat >/b\nbody\nE\n", {}, {}),
    "variables_everywhere": ("FROM busybox\nENV S=a.txt D=/dest U=7 P=81 V=/vol SIG=SIGINT L=lab\nCOPY $S $D/\nADD ${S} ${D}2/x\n"
                             "WORKDIR $D\nUSER $U\nEXPOSE $P\nVOLUME $V\nSTOPSIGNAL $SIG\nLABEL $L=$L\nCMD $S\n", {}, {}),
}


def packed(compression=""):
    """A small archive with an owner, a mode and a link."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, content, mode in (("in", tarfile.DIRTYPE, "", 0o750), (f"in/{compression or 'plain'}", tarfile.REGTYPE, "x", 0o640),
                                          ("in/link", tarfile.SYMTYPE, "plain", 0o777)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = kind, mode, 11, 12
            if kind == tarfile.SYMTYPE:
                entry.linkname = content
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content.encode()))
    raw = data.getvalue()
    return {"": bytes, "gz": functools.partial(gzip.compress, mtime=0), "bz2": bz2.compress}[compression](raw)


def context_of(name):
    """The context's members, without the Dockerfile: {path: bytes | ("link", target)}."""
    members = {**FILES, **CASES[name][1]}
    if name in ("archives", "unpack"):
        members |= {"t.tar": packed(), **{f"t.tar.{kind}": packed(kind) for kind in ("gz", "bz2")}, "not.gz": b"\x1f\x8bno"}
    return members


def write_context(name, folder):
    """The context and its Dockerfile as files below `folder`."""
    for path, content in {**context_of(name), "Dockerfile": CASES[name][0].encode()}.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.parent.chmod(0o755)
        if isinstance(content, tuple):
            place.symlink_to(content[1])
        else:
            place.write_bytes(content)
            place.chmod(0o755 if path.endswith(".sh") else 0o644)


def changed(base, tree):
    """What an image has besides its base, and `-path` for what it has no more."""
    paths = {line.split(" ")[0] for line in tree}
    return [line for line in tree if line not in base] + [
        f"-{line.split(' ')[0]}" for line in base if line.split(" ")[0] not in paths]


_NOT_THE_IMAGES = ("dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "bin", "usr")
_KINDS = {tarfile.DIRTYPE: "folder", tarfile.REGTYPE: "file", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "same", tarfile.FIFOTYPE: "fifo"}


def tree_of(api, image):
    """`path kind mode uid:gid what` of every file of an image, what docker and the base image bring left out."""
    made = api("POST", "/containers/create", {"Image": image, "Cmd": ["x"], "Entrypoint": [], "User": "0", "WorkingDir": "/"})
    number = made["Id"]
    try:
        data = api("GET", f"/containers/{number}/export")
    finally:
        api("DELETE", f"/containers/{number}?force=1&v=1")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            path = entry.name.removeprefix("./").rstrip("/")
            if not path or any(path == name or path.startswith(f"{name}/") for name in _NOT_THE_IMAGES):
                continue
            what = entry.linkname
            if entry.isreg():
                what = hashlib.sha256(tar.extractfile(entry).read()).hexdigest()[:12]
            found[path] = f"{path} {_KINDS.get(entry.type, entry.type)} {entry.mode & 0o7777:o} {entry.uid}:{entry.gid} {what}".rstrip()
    return sorted(_same_names(found))


def _same_names(found):
    """Two names of one file are told alike whichever came first."""
    for path, text in found.items():
        words = text.split(" ")
        if words[-4] == "same":
            first = words[-1].removeprefix("./")
            yield f"{path} same-as {first}" if path > first else text
        else:
            yield text


def config_of(api, image):
    """The configuration, what is empty left out."""
    document = api("GET", f"/images/{urllib.parse.quote(image)}/json")
    config = document["Config"]
    for name in ("Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"):
        config.pop(name, None)
    found = {key: value for key, value in config.items() if value not in (None, "", [], {}, False)}
    if document.get("Author"):
        found["Author"] = document["Author"]
    return found


def history_of(api, image):
    """What made each layer, the oldest first; of the base image nothing."""
    rows = api("GET", f"/images/{urllib.parse.quote(image)}/history")
    return [row["CreatedBy"] for row in reversed(rows) if row["Comment"] == "buildkit.dockerfile.v0"]
