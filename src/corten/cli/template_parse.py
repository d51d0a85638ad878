"""The parser half of Go's text/template: tokens to a tree of template's nodes."""

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
    Token,
    Variable,
    _fail,
    _Lexer,
    _unquote,
)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class _Parser:
    def __init__(self, text: str, functions: frozenset[str]) -> None:
        self.text = text
        self.functions = functions
        self.tokens = _Lexer(text).run()
        self.at = 0
        self.variables = ["$"]
        self.loops = 0

    # --- tokens

    def peek(self, blanks: bool = False) -> Token:
        if not blanks:
            while self.tokens[self.at][0] == "space":
                self.at += 1
        return self.tokens[self.at]

    def next(self, blanks: bool = False) -> Token:
        token = self.peek(blanks)
        if token[0] != "eof":
            self.at += 1
        return token

    def unexpected(self, token: Token, context: str) -> TemplateError:
        kind, word, pos = token
        if kind == "eof":
            shown = "EOF"
        elif kind in ("if", "range", "with", "else", "end", "break", "continue", "define", "block", "template"):
            shown = f"<{word}>"
        else:
            shown = _quoted(word if len(word) <= 10 else word[:10])
            if len(word) > 10:
                shown += "..."
        return _fail(self.text, pos, f"unexpected {shown} in {context}")

    # --- lists of nodes

    def block(self, outer: bool = False) -> tuple[list[Node], str]:
        """Nodes up to `end` or `else` (or the end of the text outside of all)."""
        nodes: list[Node] = []
        while True:
            kind, word, pos = self.next(True)
            if kind == "text":
                nodes.append(Text(pos, word))
                continue
            if kind == "eof":
                if outer:
                    return nodes, "eof"
                raise _fail(self.text, pos, "unexpected EOF")
            ahead = self.peek()
            if ahead[0] in ("end", "else"):
                self.next()
                if outer:
                    raise _fail(self.text, pos, f"unexpected {{{{{ahead[0]}}}}}")
                return nodes, ahead[0]
            nodes.append(self.action(pos))

    def action(self, pos: int) -> Node:
        kind, word, at = self.peek()
        if kind in ("if", "range", "with"):
            self.next()
            return self.branch(kind, at)
        if kind in ("break", "continue"):
            self.next()
            if not self.loops:
                raise _fail(self.text, at, f"{{{{{word}}}}} outside {{{{range}}}}")
            self.close(f"{{{{{word}}}}}")
            return Jump(at, kind)
        if kind in ("define", "block", "template"):
            raise _fail(self.text, at, f"{word}: one template only is read here")
        return Action(pos, self.pipeline("command", "right"))

    def close(self, context: str) -> None:
        token = self.next()
        if token[0] != "right":
            raise self.unexpected(token, context)

    def branch(self, kind: str, pos: int) -> Branch:
        depth = len(self.variables)
        pipe = self.pipeline(kind, "right", kind == "range")
        self.loops += kind == "range"
        body, ended = self.block()
        self.loops -= kind == "range"
        otherwise: list[Node] = []
        if ended == "else":
            ahead = self.peek()
            if ahead[0] == kind and kind in ("if", "with"):
                self.next()
                otherwise = [self.branch(kind, ahead[2])]
                del self.variables[depth:]
                return Branch(pos, kind, pipe, body, otherwise)  # its `end` is ours as well
            self.close("else")
            otherwise, ended = self.block()
            if ended == "else":
                raise _fail(self.text, self.tokens[self.at - 1][2], "expected end; found {{else}}")
        self.close("end")
        del self.variables[depth:]
        return Branch(pos, kind, pipe, body, otherwise)

    # --- pipelines

    def declared(self, ranging: bool) -> tuple[list[str], bool]:
        """`$x :=`, `$x =` or, in a range, `$i, $x :=`."""
        mark = self.at
        names: list[str] = []
        while self.peek()[0] == "variable":
            names.append(self.next()[1])
            kind = self.peek()[0]
            if kind in (":=", "="):
                self.next()
                if kind == ":=":
                    self.variables += names
                return names, kind == "="
            if kind == "," and ranging and len(names) < 2:
                self.next()
                continue
            if kind == ",":
                raise _fail(self.text, self.peek()[2], "too many declarations in command")
            break
        self.at = mark
        return [], False

    def pipeline(self, context: str, end: str, ranging: bool = False) -> Pipe:
        start = self.peek()[2]
        names, assigns = self.declared(ranging)
        commands: list[Command] = []
        while True:
            token = self.peek()
            if token[0] == end:
                self.next()
                if not commands:
                    raise _fail(self.text, token[2], f"missing value for {context}")
                for command in commands[1:]:
                    if isinstance(command.words[0], (Dot, Literal)):
                        raise _fail(self.text, token[2], "non executable command in pipeline stage "
                                    f"{commands.index(command) + 1}")
                return Pipe(start, names, assigns, commands)
            if token[0] in ("eof", "right", ")", "|", ",", "=", ":=") or token[0] in ("else", "end"):
                raise self.unexpected(token, context)
            commands.append(self.command())

    def command(self) -> Command:
        words: list[Node] = []
        start = self.peek()[2]
        while True:
            self.peek()
            word = self.operand()
            if word is not None:
                words.append(word)
            token = self.next(True)
            if token[0] == "space":
                continue
            if token[0] in ("right", ")"):
                self.at -= 1
                break
            if token[0] == "|":
                if self.peek()[0] in ("right", ")"):
                    raise _fail(self.text, token[2], "missing value for command")
                break
            raise self.unexpected(token, "operand")
        if not words:
            raise _fail(self.text, start, "empty command")
        return Command(words[0].pos, words)

    def operand(self) -> Node | None:
        node = self.term()
        if node is None:
            return None
        names: list[str] = []
        pos = self.peek(True)[2]
        while self.peek(True)[0] == "field":
            names.append(self.next(True)[1][1:])
        if not names:
            return node
        if isinstance(node, Variable):
            return Variable(pos, node.names + names)
        if isinstance(node, Field):
            return Field(pos, node.names + names)
        if isinstance(node, Literal):
            raise _fail(self.text, pos, f"unexpected . after term {_quoted(node.source)}")
        return Chain(pos, node, names)

    def term(self) -> Node | None:
        kind, word, pos = token = self.peek()
        if kind in ("right", ")", "|"):
            return None
        self.next()
        if kind == "name":
            if word not in self.functions:
                raise _fail(self.text, pos, f"function {_quoted(word)} not defined")
            return Function(pos, word)
        if kind == "dot":
            return Dot(pos)
        if kind == "field":
            return Field(pos, [word[1:]])
        if kind == "variable":
            if word not in self.variables:
                raise _fail(self.text, pos, f"undefined variable {_quoted(word)}")
            return Variable(pos, [word])
        if kind == "(":
            return self.pipeline("parenthesized pipeline", ")")
        value = self.literal(kind, word, pos)
        if value is not None:
            return value
        raise self.unexpected(token, "operand")

    def literal(self, kind: str, word: str, pos: int) -> Literal | None:
        if kind == "nil":
            return Literal(pos, None, word)
        if kind == "bool":
            return Literal(pos, word == "true", word)
        if kind == "string":
            return Literal(pos, word[1:-1] if word[0] == "`" else _unquote(self.text, word, pos), word)
        if kind == "char":
            return Literal(pos, ord(_unquote(self.text, word, pos) or "\0"), word)
        if kind == "number":
            for convert in (lambda text: int(text, 0), float):
                try:
                    return Literal(pos, convert(word), word)
                except ValueError:
                    continue
            raise _fail(self.text, pos, f"bad number syntax: {_quoted(word)}")
        return None


def parse(text: str, functions: frozenset[str]) -> list[Node]:
    """The tree of a template that may use these functions. Raises TemplateError."""
    return _Parser(text, functions).block(outer=True)[0]
