"""Places outside of the context: URLs and git repositories, as ADD and `POST /build?remote=` name them. Pure.

Source: the Dockerfile reference, "ADD", "Adding files from a Git repository"; Docker's "Build context".
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse

from corten.base.errors import InvalidArgument

_SCP = re.compile(r"([a-zA-Z0-9-_.]+)@([a-zA-Z0-9-_.]+):([^?#]*)(\?[^#]*)?(#.*)?", re.ASCII)
_SCHEME = re.compile(r"([a-zA-Z0-9]+)://", re.ASCII)
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class GitRef:
    """A repository (`remote`: what git is given), `ref` in it ("": its HEAD), and the folder of it that is meant.

    checksum: the commit's name must begin so. keep_git_dir, submodules: as the URL's query says, None when it does not.
    """

    __slots__ = ("checksum", "keep_git_dir", "ref", "remote", "subdir", "submodules")

    def __init__(self, remote: str, ref: str, subdir: str) -> None:
        self.remote, self.ref, self.subdir = remote, ref, subdir
        self.checksum = ""
        self.keep_git_dir: bool | None = None
        self.submodules: bool | None = None


def is_http(text: str) -> bool:
    """A URL that is downloaded, not cloned."""
    return text.startswith(("http://", "https://")) and not is_git(text)


def is_git(text: str) -> bool:
    """Whether `git_ref` knows it for a repository, be its query right or wrong."""
    try:
        return git_ref(text) is not None
    except InvalidArgument:
        return True


def is_remote(text: str) -> bool:
    """Neither a path of the context nor a heredoc."""
    return text.startswith(("http://", "https://")) or is_git(text)


def git_ref(text: str, context: bool = False) -> GitRef | None:
    """`https://host/repo.git?query#ref:folder`, `git@host:repo`, `ssh://…`, `git://…`; None for anything else.

    context: `github.com/…` is one too, and http(s) needs no `.git`. Raises InvalidArgument for a query that is wrong.
    """
    if match := _SCP.fullmatch(text):
        user, host, path, query, fragment = match.groups()
        return _made(f"{user}@{host}:{path}", (query or "")[1:], (fragment or "")[1:])
    if context and text.startswith("github.com/"):
        text = f"https://{text}"
    scheme = _SCHEME.match(text)
    if not scheme or scheme[1].lower() not in ("http", "https", "ssh", "git"):
        return None
    parts = urllib.parse.urlsplit(text)
    known = parts.path.endswith(".git") or (context and parts.netloc == "github.com")
    if scheme[1].lower() in ("http", "https") and not known:
        return None
    if any(ord(char) <= 32 for char in text):
        raise InvalidArgument(f"invalid git reference: {text!r}")
    return _made(urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), parts.query, parts.fragment)


def _made(remote: str, query: str, fragment: str) -> GitRef:
    ref, _, subdir = urllib.parse.unquote(fragment).partition(":")
    found = GitRef(remote, ref, posixpath.normpath(f"/{subdir}").lstrip("/"))
    values: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=32):
        if name in values:
            raise InvalidArgument(f'query "{name}" has multiple values')
        if not value and name not in ("submodules", "keep-git-dir"):
            raise InvalidArgument(f'query "{name}" has no value')
        values[name] = value
    _read_query(found, values)
    for word in (found.ref, found.remote.removeprefix("ssh://")):
        if word.startswith("-"):
            raise InvalidArgument(f"invalid git reference: {word}")
    return found


def _read_query(found: GitRef, values: dict[str, str]) -> None:
    asked = {found.ref} - {""}
    for name, value in values.items():
        if name == "ref":
            asked.add(value)
        elif name in ("tag", "branch"):
            prefix = "refs/tags/" if name == "tag" else "refs/heads/"
            asked.add(prefix + value.removeprefix(prefix))
        elif name == "subdir":
            if found.subdir and found.subdir != value:
                raise InvalidArgument(f'subdir conflicts: "{found.subdir}" vs "{value}"')
            found.subdir = posixpath.normpath(f"/{value}").lstrip("/")
        elif name in ("checksum", "commit"):
            found.checksum = value
        elif name == "keep-git-dir":
            found.keep_git_dir = _boolean(name, value)
        elif name == "submodules":
            found.submodules = _boolean(name, value)
        else:
            raise InvalidArgument(f'unexpected query "{name}"')
    if len(asked) > 1:
        raise InvalidArgument("ref conflicts: " + " vs ".join(f'"{ref}"' for ref in sorted(asked)))
    found.ref = asked.pop() if asked else ""


def _boolean(name: str, value: str) -> bool:
    if value in ("", *_TRUE):
        return True
    if value not in _FALSE:
        raise InvalidArgument(f'invalid {name} value: "{value}"')
    return False
