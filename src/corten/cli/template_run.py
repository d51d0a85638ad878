"""Carrying out a template on a value, as Go's text/template does: dot, variables, pipelines, if, range and with."""

from collections.abc import Callable, Iterator

from corten.cli.template import (
    Action,
    Branch,
    Chain,
    Command,
    Dot,
    Field,
    Function,
    Jump,
    Literal,
    Node,
    Pipe,
    TemplateError,
    Text,
    Variable,
    line_of,
)
from corten.cli.template_functions import FUNCTIONS, NAMES, CallError, WrongType
from corten.cli.template_parse import parse
from corten.cli.template_values import NO_VALUE, Nil, NoValue, Record, TypedMap, show, truth, type_name

_NOT_GIVEN = object()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A template read once, to be carried out on many values. Raises TemplateError when it cannot be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes = parse(text, NAMES)

    def render(
        self, value: object, strict: bool = False, functions: dict[str, Callable[..., object]] = FUNCTIONS,
    ) -> str:
        """The text for one value. `strict`: an absent key of a map is an error. Raises TemplateError."""
        run = _Run(self.text, value, strict, functions)
        run.walk(self.nodes, value)
        return "".join(run.out)


class _Run:
    def __init__(
        self, text: str, value: object, strict: bool, functions: dict[str, Callable[..., object]],
    ) -> None:
        self.text = text
        self.strict = strict
        self.functions = functions
        self.out: list[str] = []
        self.variables: list[tuple[str, object]] = [("$", value)]

    def fail(self, node: Node, message: str) -> TemplateError:
        pos = node.pos
        column = pos - (self.text.rfind("\n", 0, pos) + 1)
        shown = str(node)
        return TemplateError(
            f'template: :{line_of(self.text, pos)}:{column}: executing "" at <{shown}>: {message}'
        )

    # --- nodes

    def walk(self, nodes: list[Node], dot: object) -> None:
        for node in nodes:
            if isinstance(node, Text):
                self.out.append(node.text)
            elif isinstance(node, Action):
                value = self.pipe(node.pipe, dot)
                if not node.pipe.variables:
                    self.out.append(show(value))
            elif isinstance(node, Branch):
                self.branch(node, dot)
            elif isinstance(node, Jump):
                raise _Break if node.kind == "break" else _Continue

    def branch(self, node: Branch, dot: object) -> None:
        mark = len(self.variables)
        try:
            if node.kind == "range":
                self.range(node, dot)
                return
            value = self.pipe(node.pipe, dot)
            if truth(value):
                self.walk(node.body, value if node.kind == "with" else dot)
            else:
                self.walk(node.otherwise, dot)
        finally:
            del self.variables[mark:]

    def range(self, node: Branch, dot: object) -> None:
        value = self.pipe(node.pipe, dot, declare=False)
        mark = len(self.variables)
        empty = True
        for key, one in self.items(node, value):
            empty = False
            self.bind(node.pipe, key, one)
            try:
                self.walk(node.body, one)
            except _Break:
                break
            except _Continue:
                pass
            finally:
                del self.variables[mark:]
        if empty:
            self.walk(node.otherwise, dot)

    def bind(self, pipe: Pipe, key: object, value: object) -> None:
        names = pipe.variables
        pairs = [(names[0], value)] if len(names) == 1 else list(zip(names, (key, value), strict=False))
        for name, one in pairs:
            if pipe.assigns:
                self.assign(name, one)
            else:
                self.variables.append((name, one))

    def items(self, node: Branch, value: object) -> Iterator[tuple[object, object]]:
        if isinstance(value, (list, tuple)):
            return iter(list(enumerate(value)))
        if isinstance(value, dict):
            return iter([(key, value[key]) for key in sorted(value)])
        if isinstance(value, int) and not isinstance(value, bool):
            return iter([(number, number) for number in range(value)])
        if value is None or isinstance(value, (NoValue, Nil)):
            return iter(())
        raise self.fail(node.pipe, f"range can't iterate over {show(value)}")

    # --- values

    def assign(self, name: str, value: object) -> None:
        for place in range(len(self.variables) - 1, -1, -1):
            if self.variables[place][0] == name:
                self.variables[place] = (name, value)
                return

    def pipe(self, pipe: Pipe, dot: object, declare: bool = True) -> object:
        value: object = _NOT_GIVEN
        for command in pipe.commands:
            value = self.command(command, dot, value)
        if declare:
            for name in pipe.variables:
                if pipe.assigns:
                    self.assign(name, value)
                else:
                    self.variables.append((name, value))
        return value

    def command(self, command: Command, dot: object, final: object) -> object:
        first, arguments = command.words[0], command.words[1:]
        if isinstance(first, Function):
            return self.function(first, command, dot, final)
        if isinstance(first, Variable):
            value = next(one for name, one in reversed(self.variables) if name == first.names[0])
            return self.fields(first, value, first.names[1:], dot, arguments, final)
        if isinstance(first, Field):
            return self.fields(first, dot, first.names, dot, arguments, final)
        if isinstance(first, Chain):
            return self.fields(first, self.word(first.node, dot), first.names, dot, arguments, final)
        if isinstance(first, Pipe) and not arguments and final is _NOT_GIVEN:
            return self.pipe(first, dot)
        if arguments or final is not _NOT_GIVEN:
            raise self.fail(first, f"can't give argument to non-function {first}")
        if isinstance(first, Literal) and first.value is None:
            raise self.fail(first, "nil is not a command")
        return self.word(first, dot)

    def word(self, node: Node, dot: object) -> object:
        if isinstance(node, Dot):
            return dot
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Pipe):
            return self.pipe(node, dot)
        return self.command(Command(node.pos, [node]), dot, _NOT_GIVEN)

    def function(self, node: Function, command: Command, dot: object, final: object) -> object:
        name, words = node.name, command.words[1:]
        if name in ("and", "or"):
            return self.logic(node, words, dot, final)
        values = [self.word(word, dot) for word in words]
        if final is not _NOT_GIVEN:
            values.append(final)
        if name == "call":
            raise self.fail(node, "error calling call: call of nil")
        values = [None if isinstance(one, NoValue) else one for one in values]
        try:
            return self.functions[name](*values)
        except WrongType as error:
            raise self.fail(words[error.place] if error.place < len(words) else node, str(error)) from None
        except CallError as error:
            raise self.fail(command if words else node, f"error calling {name}: {error}") from None
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise self.fail(node, f"wrong number of args for {name}: got {len(values)}") from None

    def logic(self, node: Function, words: list[Node], dot: object, final: object) -> object:
        stop = node.name == "or"
        value: object = None
        if not words and final is _NOT_GIVEN:
            raise self.fail(node, f"wrong number of args for {node.name}: want at least 1 got 0")
        for word in words:
            value = self.word(word, dot)
            if truth(value) == stop:
                return value
        return value if final is _NOT_GIVEN else final

    def fields(
        self, node: Node, value: object, names: list[str], dot: object, arguments: list[Node], final: object,
    ) -> object:
        for place, name in enumerate(names):
            last = place == len(names) - 1
            given: list[object] = []
            if last:
                given = [self.word(word, dot) for word in arguments]
                if final is not _NOT_GIVEN:
                    given.append(final)
            value = self.field(node, value, name, given)
        if not names and (arguments or final is not _NOT_GIVEN):
            raise self.fail(node, f"can't give argument to non-function {node}")
        return value

    def field(self, node: Node, value: object, name: str, given: list[object]) -> object:
        if isinstance(value, Record):
            if name not in value.by_name:
                raise self.fail(node, f"can't evaluate field {name} in type {value.kind}")
            found = value.by_name[name]
        elif isinstance(value, dict):
            if name not in value:
                if self.strict and not isinstance(value, TypedMap):
                    raise self.fail(node, f'map has no entry for key "{name}"')
                return NO_VALUE
            found = value[name]
        elif isinstance(value, Nil) and value.shown.startswith("map"):
            return NO_VALUE
        elif isinstance(value, Nil):
            raise self.fail(node, f"nil pointer evaluating {value.kind}.{name}")
        elif value is None or isinstance(value, NoValue):
            raise self.fail(node, f"nil data; no entry for key \"{name}\"" if self.strict
                            else f"nil pointer evaluating interface {{}}.{name}")
        else:
            kind = "interface {}" if self.strict else type_name(value)
            raise self.fail(node, f"can't evaluate field {name} in type {kind}")
        if callable(found):
            return found(*given)
        if given:
            raise self.fail(node, f"{name} has arguments but cannot be invoked as function")
        return found
