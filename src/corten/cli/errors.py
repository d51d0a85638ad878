"""What ends a command: a text for stderr and an exit code. The one place where the two meet."""


class Failure(Exception):
    """A command ends with `text` on stderr (nothing when empty) and the exit code `code`."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class UsageError(Failure):
    """A flag that cannot be: docker ends with 125 and the usage line, whatever the command."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 125)


class ApiError(Failure):
    """The daemon said no: its HTTP status and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status
        self.message = message


class NotConnected(Failure):
    """No daemon answers at the address."""
