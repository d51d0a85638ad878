"""One call of a command of corten-oci: what its options and words mean to every command alike."""

from corten.base.errors import InvalidArgument
from corten.runtime import state
from corten.runtime.options import BadUsage, absolute, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corten.runtime.options import Options


class Call:
    """The state root, the command's options and its other words; `systemd` and `rootless` are global options."""

    __slots__ = ("debugging", "options", "root", "root_given", "rootless", "systemd", "tell", "words")

    def __init__(
        self, root: str, options: "Options", words: list[str], *, tell: "Callable[[str, str], None]",
        root_given: bool = False, systemd: bool = False, rootless: bool | None = None, debugging: bool = False,
    ) -> None:
        self.root = root
        self.root_given = root_given
        self.options = options
        self.words = words
        self.debugging = debugging
        self.tell = tell  # (level, message) into the log, else on stderr; level debug only with --debug
        self.systemd = systemd
        self.rootless = rootless

    @property
    def id(self) -> str:
        if not self.words or not self.words[0]:
            raise InvalidArgument("container id cannot be empty")
        return self.words[0]

    def number(self, name: str) -> int:
        """A small count. Raises InvalidArgument."""
        value = text(self.options, name, "0")
        if not (value.isascii() and value.isdigit()) or len(value) > 4:
            raise BadUsage(f'invalid value "{value}" for flag -{name.replace("_", "-")}: parse error')
        return int(value)

    def load(self) -> state.State:
        """The container's record. Raises NotFound, InvalidArgument."""
        return state.load(self.root, self.id)

    def path(self, name: str) -> str:
        """An option that is a path, absolute whatever folder is entered later; "" when not given."""
        value = text(self.options, name)
        return absolute(value) if value else ""
