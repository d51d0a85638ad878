"""Go's text/template, read: a text becomes a tree. `template_run` walks it, `template_functions` are its words.

Errors have Go's texts (`template: :1: unclosed action`). No `define`, `block` or `template`: one text is one template.
"""

from corten.cli.errors import Failure


class TemplateError(Failure):
    """A template that cannot be read, or not carried out on this value; the text is Go's."""


class Node:
    """Anything with a place in the text (offset in characters)."""

    __slots__ = ("pos",)

    def __init__(self, pos: int) -> None:
        self.pos = pos


class Text(Node):
    """Copied as it is."""

    __slots__ = ("text",)

    def __init__(self, pos: int, text: str) -> None:
        super().__init__(pos)
        self.text = text


class Field(Node):
    """`.A.B`"""

    __slots__ = ("names",)

    def __init__(self, pos: int, names: list[str]) -> None:
        super().__init__(pos)
        self.names = names

    def __str__(self) -> str:
        return "".join("." + name for name in self.names)


class Variable(Field):
    """`$x.A`; the first name has its `$`."""

    __slots__ = ()

    def __str__(self) -> str:
        return ".".join(self.names)


class Dot(Node):
    """`.`"""

    __slots__ = ()

    def __str__(self) -> str:
        return "."


class Literal(Node):
    """A number, string, character, true, false or nil, and how it was written."""

    __slots__ = ("source", "value")

    def __init__(self, pos: int, value: object, source: str) -> None:
        super().__init__(pos)
        self.value = value
        self.source = source

    def __str__(self) -> str:
        return self.source


class Function(Node):
    """A function's name."""

    __slots__ = ("name",)

    def __init__(self, pos: int, name: str) -> None:
        super().__init__(pos)
        self.name = name

    def __str__(self) -> str:
        return self.name


class Chain(Node):
    """`(pipeline).A.B`"""

    __slots__ = ("names", "node")

    def __init__(self, pos: int, node: Node, names: list[str]) -> None:
        super().__init__(pos)
        self.node = node
        self.names = names

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return inner + "".join("." + name for name in self.names)


class Command(Node):
    """Words side by side: a function or field and its arguments."""

    __slots__ = ("words",)

    def __init__(self, pos: int, words: list[Node]) -> None:
        super().__init__(pos)
        self.words = words

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, Pipe) else str(word) for word in self.words)


class Pipe(Node):
    """Commands joined by `|`, perhaps into variables."""

    __slots__ = ("assigns", "commands", "variables")

    def __init__(self, pos: int, variables: list[str], assigns: bool, commands: list[Command]) -> None:
        super().__init__(pos)
        self.variables = variables
        self.assigns = assigns
        self.commands = commands

    def __str__(self) -> str:
        left = f"{', '.join(self.variables)} {'=' if self.assigns else ':='} " if self.variables else ""
        return left + " | ".join(map(str, self.commands))


class Action(Node):
    """`{{pipeline}}`"""

    __slots__ = ("pipe",)

    def __init__(self, pos: int, pipe: Pipe) -> None:
        super().__init__(pos)
        self.pipe = pipe


class Branch(Node):
    """`if`, `range` or `with`, and what is done otherwise."""

    __slots__ = ("body", "kind", "otherwise", "pipe")

    def __init__(self, pos: int, kind: str, pipe: Pipe, body: list[Node], otherwise: list[Node]) -> None:
        super().__init__(pos)
        self.kind = kind
        self.pipe = pipe
        self.body = body
        self.otherwise = otherwise


class Jump(Node):
    """`break` or `continue`."""

    __slots__ = ("kind",)

    def __init__(self, pos: int, kind: str) -> None:
        super().__init__(pos)
        self.kind = kind


Token = tuple[str, str, int]  # kind, text, offset

_BLANK = " \t\r\n"
_KEYWORDS = frozenset(("if", "range", "with", "else", "end", "break", "continue", "define", "block", "template", "nil"))
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def line_of(text: str, pos: int) -> int:
    """The line of an offset, from 1."""
    return 1 + text.count("\n", 0, pos)


def _fail(text: str, pos: int, message: str) -> TemplateError:
    return TemplateError(f"template: :{line_of(text, pos)}: {message}")


def _unquote(text: str, literal: str, pos: int) -> str:
    out = []
    at = 1
    while at < len(literal) - 1:
        letter = literal[at]
        if letter != "\\":
            out.append(letter)
            at += 1
            continue
        code = literal[at + 1]
        width = {"x": 2, "u": 4, "U": 8}.get(code)
        if width is not None:
            digits = literal[at + 2:at + 2 + width]
            try:
                out.append(chr(int(digits, 16)))
            except (ValueError, OverflowError):
                raise _fail(text, pos, "invalid syntax") from None
            at += 2 + width
        elif code in _ESCAPES:
            out.append(_ESCAPES[code])
            at += 2
        else:
            raise _fail(text, pos, "invalid syntax")
    return "".join(out)


class _Lexer:
    """Cuts a template into texts and the tokens of its actions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []

    def run(self) -> list[Token]:
        text, at = self.text, 0
        while True:
            start = text.find("{{", at)
            piece = text[at:] if start < 0 else text[at:start]
            if start >= 0 and text[start + 2:start + 3] == "-" and text[start + 3:start + 4] in tuple(_BLANK):
                piece = piece.rstrip(_BLANK)
                inner = start + 3
            else:
                inner = start + 2
            if piece:
                self.tokens.append(("text", piece, at))
            if start < 0:
                break
            at = self._comment(inner, start) or self._action(inner, start)
        self.tokens.append(("eof", "", len(text)))
        return self.tokens

    def _after(self, end: int, trimmed: bool) -> int:
        if trimmed:
            while end < len(self.text) and self.text[end] in _BLANK:
                end += 1
        return end

    def _comment(self, at: int, start: int) -> int:
        text = self.text
        while text[at:at + 1] and text[at] in _BLANK and text[start + 2] == "-":
            at += 1
        if not text.startswith("/*", at):
            return 0
        end = text.find("*/", at)
        if end < 0:
            raise _fail(text, start, "unclosed comment")
        end += 2
        if text.startswith("}}", end):
            return self._after(end + 2, False)
        if text[end:end + 1] in tuple(_BLANK) and text.startswith("-}}", end + 1):
            return self._after(end + 4, True)
        raise _fail(text, start, "comment ends before closing delimiter")

    def _action(self, at: int, start: int) -> int:
        text = self.text
        self.tokens.append(("left", "{{", start))
        depth = 0
        while True:
            if at >= len(text):
                raise _fail(text, start, "unclosed action")
            letter = text[at]
            if letter in _BLANK:
                end = at
                while end < len(text) and text[end] in _BLANK:
                    end += 1
                if text.startswith("-}}", end):
                    self.tokens.append(("right", "}}", end))
                    return self._after(end + 3, True)
                self.tokens.append(("space", " ", at))
                at = end
            elif text.startswith("}}", at):
                if depth:
                    raise _fail(text, at, "unclosed left paren")
                self.tokens.append(("right", "}}", at))
                return at + 2
            else:
                depth += {"(": 1, ")": -1}.get(letter, 0)
                if depth < 0:
                    raise _fail(text, at, "unexpected right paren")
                at = self._token(at)

    def _token(self, at: int) -> int:
        text = self.text
        letter = text[at]
        if letter in "|(),=":
            self.tokens.append((letter, letter, at))
            return at + 1
        if text.startswith(":=", at):
            self.tokens.append((":=", ":=", at))
            return at + 2
        if letter in "\"'`":
            return self._quoted(at)
        following = text[at + 1:at + 2]
        if letter == "." and not following.isdigit():
            end = self._word_end(at + 1)
            self.tokens.append(("field" if end > at + 1 else "dot", text[at:end], at))
            return self._terminated(end)
        if letter == "$":
            end = self._word_end(at + 1)
            self.tokens.append(("variable", text[at:end], at))
            return self._terminated(end)
        if letter.isdigit() or (letter in "+-." and following and (following.isdigit() or following == ".")):
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] in "._"
                                       or (text[end] in "+-" and text[end - 1] in "eE")):
                end += 1
            self.tokens.append(("number", text[at:end], at))
            return end
        if letter == "_" or letter.isalpha():
            end = self._word_end(at)
            word = text[at:end]
            kind = word if word in _KEYWORDS else "bool" if word in ("true", "false") else "name"
            self.tokens.append((kind, word, at))
            return self._terminated(end)
        if ord(letter) < 128 and letter.isprintable():
            raise _fail(text, at, f"unexpected {_shown_char(letter)} in command")
        raise _fail(text, at, f"unrecognized character in action: U+{ord(letter):04X} '{letter}'")

    def _terminated(self, end: int) -> int:
        """A name must end before a blank, a dot, a sign or the closing braces."""
        letter = self.text[end:end + 1]
        if letter and letter not in " \t\r\n.,|:()=" and not self.text.startswith("}}", end):
            raise _fail(self.text, end, f"bad character U+{ord(letter):04X} '{letter}'")
        return end

    def _word_end(self, at: int) -> int:
        while at < len(self.text) and (self.text[at] == "_" or self.text[at].isalnum()):
            at += 1
        return at

    def _quoted(self, at: int) -> int:
        text, quote = self.text, self.text[at]
        end = at + 1
        while end < len(text) and text[end] != quote:
            if quote != "`" and text[end] == "\n":
                break
            end += 2 if text[end] == "\\" and quote != "`" else 1
        if end >= len(text) or text[end] != quote:
            what = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[quote]
            raise _fail(text, at, f"unterminated {what}")
        self.tokens.append(("char" if quote == "'" else "string", text[at:end + 1], at))
        return end + 1


def _shown_char(letter: str) -> str:
    return '"\\""' if letter == '"' else f'"{letter}"'
