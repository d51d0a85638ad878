"""Undoing a half-done operation: each step that succeeds leaves the way back."""

from collections.abc import Callable


class Undo:
    """A stack of ways back.

        undo = Undo()
        undo.add(os.rmdir, path)
        ...
        undo.commit()      # all went well: forget them
        undo.run()         # else: newest first, every one of them, failures collected

    `run` raises ExceptionGroup when steps failed; teardown never stops at the first failure.
    """

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def add(self, function: Callable[..., object], *arguments: object) -> None:
        self._steps.append((function, arguments))

    def commit(self) -> None:
        self._steps.clear()

    def run(self) -> None:
        failures: list[Exception] = []
        while self._steps:
            function, arguments = self._steps.pop()
            try:
                function(*arguments)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("while undoing", failures)
