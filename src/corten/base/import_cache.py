"""The modules of a short-lived command from one file instead of sixty.

The file holds what each module compiles to, beside the package's other compiled files. An entry counts only while its
source has the age and length it had then, as for a .pyc; otherwise Python's own import does the work, and the file is
written anew at the end. It may be deleted at any time, and is not needed: what cannot be written is left out.

On the way to a command `posix` stands for `os`, whose import alone costs 1.5 ms.
"""

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FOLDER = __file__.rpartition("/base/")[0]
_PATH = f"{_FOLDER}/__pycache__/commands.{sys.implementation.cache_tag}"
_BORROWED = ("ctypes", "struct", "types", "__future__")  # of the standard library, and below
_FunctionType: "Any" = type(lambda: None)


class _Cache:
    """A finder and loader of `sys.meta_path`: name -> (source, mtime in ns, size, whether a package, its code)."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[str, int, int, bool, bytes]] = {}
        self.missed = True
        try:
            descriptor = posix.open(_PATH, posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                data = posix.read(descriptor, 16 << 20)
            finally:
                posix.close(descriptor)
            self.entries = marshal.loads(data)  # noqa: S302  a file of our own, read as Python reads a .pyc
            self.missed = False
        except (OSError, ValueError, EOFError, TypeError):
            pass

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        entry = self.entries.get(name)
        if entry is None:
            if name.startswith("corten.") or name.partition(".")[0] in _BORROWED:
                self.missed = True
            return None
        source, mtime_ns, size, package, _ = entry
        if not source.startswith("/"):
            source = f"{_FOLDER}/{source}"  # the package may have been moved or copied with its file
        try:
            found = posix.stat(source)
        except OSError:
            return None
        if found.st_mtime_ns != mtime_ns or found.st_size != size:
            self.missed = True
            return None
        spec = _ModuleSpec(name, self, origin=source, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def create_module(self, spec: object) -> None:
        """An ordinary module."""

    def exec_module(self, module: object) -> None:
        name: str = module.__name__  # type: ignore[attr-defined]
        code = marshal.loads(self.entries[name][4])  # noqa: S302
        _FunctionType(code, module.__dict__)()

    def save(self) -> None:
        """Write what this process has imported besides what was there, if that is more. Never raises."""
        if not self.missed:
            return
        for name, module in list(sys.modules.items()):
            spec: Any = getattr(module, "__spec__", None)
            source: Any = spec.origin if spec else None
            ours = name == "corten" or name.startswith("corten.") or name.partition(".")[0] in _BORROWED
            if not (ours and source and source.endswith(".py")) or spec.loader is self:
                continue
            try:
                found = posix.stat(source)
                text = spec.loader.get_source(name)
                code = marshal.dumps(compile(text, source, "exec", dont_inherit=True, optimize=2))  # no docstrings
            except (OSError, AttributeError, ValueError, ImportError, TypeError, SyntaxError):
                continue
            package = spec.submodule_search_locations is not None
            self.entries[name] = (source.removeprefix(f"{_FOLDER}/"), found.st_mtime_ns, found.st_size, package, code)
        _write(marshal.dumps(self.entries))


def _write(data: bytes) -> None:
    temporary = f"{_PATH}.{posix.getpid()}"
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        descriptor = posix.open(temporary, flags, 0o644)
        try:
            posix.write(descriptor, data)
        finally:
            posix.close(descriptor)
        posix.rename(temporary, _PATH)
    except OSError:
        pass


_ModuleSpec: "Any" = type(sys.__spec__)
_cache: _Cache | None = None


def install() -> None:
    """Let imports from now on come from the file; may be called again."""
    global _cache
    if _cache is None:
        _cache = _Cache()
        sys.meta_path.insert(0, _cache)  # type: ignore[arg-type]


def save() -> None:
    """Keep what was imported for the next process. Never raises."""
    if _cache is not None:
        _cache.save()
