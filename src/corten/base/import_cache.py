"""The modules of a short-lived command from one file a command instead of sixty files.

The file holds what each module compiles to, beside the package's other compiled files. What the first call of a command
needed is loaded and run at once, in its order; what other calls need besides, module by module. An entry counts only
while its source has the age and length it had then, as for a .pyc; otherwise Python's own import does the work, and the
file is written anew at the end. It may be deleted at any time, and is not needed: what cannot be written is left out.

On the way to a command `posix` stands for `os`, whose import alone costs 1.5 ms.
"""

import _imp
import gc
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    # source or library, its mtime in ns and its size; MODULE, PACKAGE or LIBRARY; the code
    Entry = tuple[str, int, int, int, CodeType | None]

MODULE, PACKAGE, LIBRARY = range(3)
_FOLDER = __file__.rpartition("/base/")[0]
_OFTEN = ("create", "start", "state", "kill", "delete", "exec", "run")  # commands with a file of their own
# what is taken of the standard library; its own way goes through one folder after another
_BORROWED = frozenset(("struct", "__future__", "_ctypes", "_json", "resource"))
_ModuleSpec: "Any" = type(sys.__spec__)
_Module: "Any" = type(sys)
_Function: "Any" = type(lambda: None)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "corten" or name.partition(".")[0] in _BORROWED


class _Cache:
    """A finder and loader of `sys.meta_path`, and what it has to give: names -> entries."""

    def __init__(self, command: str) -> None:
        tag = f"{sys.implementation.cache_tag}-{sys.hexversion:x}"  # two interpreters may share a clone
        self.path = f"{_FOLDER}/__pycache__/oci-{command}.{tag}"
        self.first: dict[str, Entry] = {}
        self._others: dict[str, Entry] = {}
        self._packed = b""  # the others, as long as nobody asks for them
        self.missed = True
        try:
            descriptor = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                data = posix.read(descriptor, 16 << 20)
            finally:
                posix.close(descriptor)
            version, first, packed = marshal.loads(data)  # noqa: S302  a file of our own, read as Python reads a .pyc
        except (OSError, ValueError, EOFError, TypeError):
            return
        if version == sys.hexversion and all(map(_is_fresh, first.values())):
            self.first, self._packed = first, packed
            self.missed = False

    @property
    def others(self) -> "dict[str, Entry]":
        if self._packed:
            self._others, self._packed = marshal.loads(self._packed), b""  # noqa: S302
        return self._others

    def run(self) -> None:
        """Load what the first call needed, in the order in which it was done then.

        What is done before its package is asked for by that.
        """
        for name, entry in self.first.items():
            parent, _, own = name.rpartition(".")
            if name not in sys.modules and (not parent or parent in sys.modules):
                spec = self._spec(name, entry)
                if entry[3] == LIBRARY:
                    module = sys.modules[name] = _imp.create_dynamic(spec)
                    _imp.exec_dynamic(module)
                else:
                    module = sys.modules[name] = _Module(name)
                    self._name(module, spec)
                    _Function(entry[4], module.__dict__)()
                if parent:
                    setattr(sys.modules[parent], own, module)

    def _spec(self, name: str, entry: "Entry") -> "Any":
        source = _whole(entry[0])
        spec = _ModuleSpec(name, self, origin=source, is_package=entry[3] == PACKAGE)
        spec.has_location = True
        if entry[3] == PACKAGE:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def _name(self, module: "Any", spec: "Any") -> None:
        module.__spec__, module.__loader__, module.__file__ = spec, self, spec.origin
        module.__package__ = spec.parent
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if not _is_ours(name):
            return None
        entry = self.first.get(name)
        if entry is None:
            entry = self.others.get(name)
            if entry is not None and not _is_fresh(entry):
                entry = None
        if entry is not None:
            return self._spec(name, entry)
        self.missed = True
        return None

    def create_module(self, spec: "Any") -> object:
        return _imp.create_dynamic(spec) if self._entry(spec.name)[3] == LIBRARY else None

    def exec_module(self, module: "Any") -> None:
        entry = self._entry(module.__name__)
        if entry[3] == LIBRARY:
            _imp.exec_dynamic(module)
        else:
            _Function(entry[4], module.__dict__)()

    def _entry(self, name: str) -> "Entry":
        return self.first.get(name) or self.others[name]

    def save(self) -> None:
        """Write what this process has imported besides what was there, if that is more. Never raises."""
        if not self.missed:
            return
        found: dict[str, Entry] = {}
        for name, module in list(sys.modules.items()):  # in the order in which they were complete
            spec: Any = getattr(module, "__spec__", None)
            if not (spec and spec.origin and _is_ours(name)) or spec.loader is self or name == __name__:
                continue
            try:
                found[name] = _compiled(name, spec)
            except (OSError, AttributeError, ValueError, ImportError, TypeError, SyntaxError):
                continue
        if self.first:
            self.others.update(found)
        else:
            self.first = found
        self._write(marshal.dumps((sys.hexversion, self.first, marshal.dumps(self.others))))

    def _write(self, data: bytes) -> None:
        temporary = f"{self.path}.{posix.getpid()}"
        try:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
            descriptor = posix.open(temporary, flags, 0o644)
            try:
                posix.write(descriptor, data)
            finally:
                posix.close(descriptor)
            posix.rename(temporary, self.path)
        except OSError:
            pass


def _whole(source: str) -> str:
    """A source below the package is kept without its folder: the package may have been moved or copied."""
    return source if source.startswith("/") else f"{_FOLDER}/{source}"


def _is_fresh(entry: "Entry") -> bool:
    try:
        found = posix.stat(_whole(entry[0]))
    except OSError:
        return False
    return found.st_mtime_ns == entry[1] and found.st_size == entry[2]


def _compiled(name: str, spec: "Any") -> "Entry":
    source: str = spec.origin
    kind, code = LIBRARY, None
    if source.endswith(".py"):
        kind = MODULE if spec.submodule_search_locations is None else PACKAGE
        text = spec.loader.get_source(name)
        code = compile(text, source, "exec", dont_inherit=True, optimize=2)  # no docstrings
    elif not source.endswith(".so"):
        raise ValueError(source)  # built in, or frozen
    found = posix.stat(source)
    return source.removeprefix(f"{_FOLDER}/"), found.st_mtime_ns, found.st_size, kind, code


_cache: _Cache | None = None


def install() -> None:
    """Let imports from now on come from the file of the command that is called; may be called again."""
    global _cache
    gc.disable()  # a life of milliseconds
    if _cache is None:
        _cache = _Cache(next((word for word in sys.argv[1:] if word in _OFTEN), "other"))
        sys.meta_path.insert(0, _cache)  # type: ignore[arg-type]
        _cache.run()


def save() -> None:
    """Keep what was imported for the next process. Never raises."""
    if _cache is not None:
        _cache.save()
