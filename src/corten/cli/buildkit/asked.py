"""A build as it is asked of the engine: plain data, filled by the modules that read flags, used by the session's.

What the engine may ask back is only what stands here: folders and stores by name, secrets, agents, outputs.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Output:
    """An exporter of the engine's; its files go to `folder`, its archive to `file` ("-": standard output).

    `delete`: what the engine does not list goes from the folder.
    """

    __slots__ = ("attributes", "delete", "file", "folder", "kind")

    def __init__(self, kind: str, attributes: dict[str, str], folder: str = "", file: str = "") -> None:
        self.kind, self.attributes, self.folder, self.file = kind, attributes, folder, file
        self.delete = False


class CacheEnd:
    """A cache to read or to write; `folder` when it is one of ours."""

    __slots__ = ("attributes", "folder", "kind")

    def __init__(self, kind: str, attributes: dict[str, str], folder: str = "") -> None:
        self.kind, self.attributes, self.folder = kind, attributes, folder


class Secret:
    """Where a secret's bytes are: a file, or a variable of the environment."""

    __slots__ = ("path", "variable")

    def __init__(self, path: str = "", variable: str = "") -> None:
        self.path, self.variable = path, variable


class Asked:
    """All of one build."""

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}  # of the front end
        self.folders: dict[str, str] = {}  # name -> path of a folder that the engine may read
        self.stores: dict[str, str] = {}  # name -> path of an OCI layout that it may read and write
        self.outputs: list[Output] = []
        self.cache_from: list[CacheEnd] = []
        self.cache_to: list[CacheEnd] = []
        self.secrets: dict[str, Secret] = {}
        self.agents: dict[str, list[str]] = {}  # name -> [socket] or [key, …]
        self.entitlements: set[str] = set()
        self.uploads: dict[str, Callable[[], Iterator[bytes]]] = {}  # URL path -> a tar that is held here
        self.share = ""  # the same from build to build of one folder
        self.scratch: list[str] = []  # folders that go when the build is over
