"""Image references and ids as the command line shows and sends them. Pure; the daemon checks, this only splits.

Source: the distribution project's reference grammar; `docker.io` and `library/` are what a bare name leaves out.
"""


def split_name(text: str) -> tuple[str, str, str]:
    """`host:5000/a/b:tag@sha256:…` -> (name, tag, digest); empty where absent."""
    name, _, digest = text.partition("@")
    slash = name.rfind("/")
    colon = name.rfind(":")
    if colon > slash:
        return name[:colon], name[colon + 1:], digest
    return name, "", digest


def with_default_tag(text: str) -> str:
    """`name` -> `name:latest`."""
    _, tag, digest = split_name(text)
    return text if tag or digest else f"{text}:latest"


def domain_of(text: str) -> tuple[str, str]:
    """(registry, path) of a name: `alpine` -> (`docker.io`, `library/alpine`)."""
    name = split_name(text)[0]
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        domain, path = "docker.io", name
    else:
        domain, path = first, rest
    if domain in ("docker.io", "index.docker.io"):
        domain = "docker.io"
        path = path if "/" in path else f"library/{path}"
    return domain, path


def full_name(text: str) -> str:
    """`alpine` -> `docker.io/library/alpine`, without tag and digest."""
    return "/".join(domain_of(text))


def familiar(text: str) -> str:
    """The short way to write a reference: `docker.io/library/alpine:3` -> `alpine:3`."""
    name, tag, digest = split_name(text)
    domain, path = domain_of(name)
    path = path.removeprefix("library/") if domain == "docker.io" else f"{domain}/{path}"
    return path + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def is_valid(text: str) -> bool:
    """Whether `text` can be a reference at all."""
    name, tag, digest = split_name(text)
    if "@" in text and not _is_digest(digest):
        return False
    if ":" in name.rpartition("/")[2]:
        return False
    path = domain_of(name)[1] if name else ""
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789._-/")
    parts = path.split("/") if name else [""]
    if not allowed.issuperset(path) or any(not part or part[0] in "._-" or part[-1] in "._-" for part in parts):
        return False
    if domain_of(name)[0] == "docker.io" and name[0] in "._-/":
        return False
    tail = tag.replace(".", "a").replace("-", "a").replace("_", "a")
    return not tag or (tail.isascii() and tail.isalnum() and tag[0] not in ".-" and len(tag) <= 128)


def _is_digest(text: str) -> bool:
    algorithm, _, digits = text.partition(":")
    return bool(algorithm) and len(digits) >= 32 and set("0123456789abcdef").issuperset(digits)


def check(text: str) -> None:
    """Raises Failure with docker's text when `text` cannot be a reference."""
    if is_valid(text):
        return
    from corten.cli.errors import Failure

    name = split_name(text)[0]
    if name and name.lower() != name and is_valid(text.lower()):
        path = domain_of(name)[1]
        raise Failure(f"invalid reference format: repository name ({path}) must be lowercase")
    raise Failure("invalid reference format")


def short_id(full: str) -> str:
    """The first twelve digits of an id, `sha256:` dropped."""
    return full.removeprefix("sha256:")[:12]
