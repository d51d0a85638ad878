"""Lists as `--format` shows them: tables with aligned columns, JSON lines, or a template for each row.

The template engine is imported only when a template was given: the plain table needs none.
"""

import sys
from collections.abc import Callable

from corten.base import jsonio
from corten.cli.errors import Failure

Row = dict[str, object]  # texts by column; a function takes a template's arguments

_MIN_WIDTH, _PADDING = 10, 3


def aligned(lines: list[list[str]], minimum: int = _MIN_WIDTH, padding: int = _PADDING) -> str:
    """Cells under each other: at least ten wide, three blanks between; a column lasts while each line has it.

    As Go's tabwriter does: the last cell of a line belongs to no column.
    """
    out: list[str] = []

    def emit(first: int, end: int, widths: list[int]) -> None:
        for cells in lines[first:end]:
            out.append("".join(
                cell.ljust(widths[place]) if place < len(widths) else cell for place, cell in enumerate(cells)
            ))

    def block(first: int, end: int, widths: list[int]) -> None:
        column = len(widths)
        at = first
        while at < end:
            if column >= len(lines[at]) - 1:
                at += 1
                continue
            emit(first, at, widths)
            first = at
            width = minimum
            while at < end and column < len(lines[at]) - 1:
                width = max(width, len(lines[at][column]) + padding)
                at += 1
            block(first, at, [*widths, width])
            first = at
        emit(first, end, widths)

    block(0, len(lines), [])
    return "".join(line + "\n" for line in out)


def ellipsis(text: str, width: int) -> str:
    """At most `width` letters, the last an ellipsis when something was cut."""
    return text if len(text) <= width else text[:width - 1] + "…"


class Listing:
    """A kind of list: its columns with their headers, those of the plain table, and the Go type its errors name."""

    def __init__(self, kind: str, headers: dict[str, str], columns: tuple[str, ...], id_column: str = "ID") -> None:
        self.kind = kind
        self.headers = headers
        self.columns = columns
        self.id_column = id_column

    def show(self, rows: list[Row], form: str = "", quiet: bool = False) -> None:
        """Write the list to stdout as `--format` and `--quiet` say. Raises TemplateError."""
        sys.stdout.write(self.text(rows, form, quiet))

    def text(self, rows: list[Row], form: str = "", quiet: bool = False) -> str:
        """The list as it is shown."""
        if form in ("", "table"):
            if quiet:
                return "".join(f"{row[self.id_column]}\n" for row in rows)
            lines = [[self.headers[name] for name in self.columns]]
            lines += [[_cell(row, name) for name in self.columns] for row in rows]
            return aligned(lines)
        if form == "json":
            return "".join(self.as_json(row) + "\n" for row in rows)
        return self._by_template(rows, form)

    def as_json(self, row: Row) -> str:
        """A row as one line of JSON, sorted by name; what takes arguments is left out."""
        plain = {name: value for name, value in row.items() if not callable(value)}
        return jsonio.html_escaped(jsonio.dumps(plain, sort_keys=True))

    def _by_template(self, rows: list[Row], form: str) -> str:
        from corten.cli.template import TemplateError
        from corten.cli.template_functions import HEADER_FUNCTIONS
        from corten.cli.template_run import Template

        is_table = form.startswith("table")
        text = (form[5:] if is_table else form).strip(" ").replace("\\t", "\t").replace("\\n", "\n")
        try:
            template = Template(text)
        except TemplateError as error:
            raise Failure(f"template parsing error: {error.text}", 64) from None
        rendered = []
        try:
            for row in rows:
                rendered.append(template.render(self.record(row)))
        except TemplateError as error:
            raise Failure(f"template parsing error: {error.text}") from None
        if not is_table:
            return "".join(line + "\n" for line in rendered)
        headers: dict[str, object] = {**self.headers, "Label": _label_header}
        rendered.insert(0, template.render(headers, functions=HEADER_FUNCTIONS))
        return aligned([line.split("\t") for whole in rendered for line in whole.split("\n")])

    def record(self, row: Row) -> object:
        """A row as a template sees it."""
        from corten.cli.template_values import Record

        plain = {name: value for name, value in row.items() if not callable(value)}
        return Record(self.kind, dict(row), dict(sorted(plain.items())))


def _cell(row: Row, name: str) -> str:
    value = row[name]
    return value if isinstance(value, str) else str(value)


def _label_header(name: object = "") -> str:
    return str(name).split(".")[-1].replace("-", " ").replace("_", " ")


def label_of(labels: dict[str, str]) -> Callable[..., str]:
    """The method `.Label "key"` of a row."""
    return lambda name="": labels.get(str(name), "")


def joined_labels(labels: dict[str, str] | None) -> str:
    """All labels of an object in one cell, sorted."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))
