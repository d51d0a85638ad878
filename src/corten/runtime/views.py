"""The commands that only tell: list, features; and spec, which writes a first config.json."""

import json
import os

from corten.base.errors import Conflict, InvalidArgument
from corten.runtime import state
from corten.runtime.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.command import Call

_HEADINGS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def list_(call: "Call") -> int:
    """list: all containers below the root; --format table|json, --quiet. A root given that is absent is an error."""
    style = text(call.options, "format", "table")
    if call.root_given and not os.path.isdir(call.root):
        raise InvalidArgument(f"open {call.root}: no such file or directory")
    rows = [state.describe(record) for record in state.load_all(call.root)]
    if call.options.get("quiet"):
        for row in rows:
            print(row["id"])
    elif style == "json":
        print(json.dumps(rows or None, separators=(",", ":")))  # a list of nothing is Go's null
    elif style == "table":
        _print_table([_HEADINGS, *(tuple(str(row[name.lower()]) for name in _HEADINGS) for row in rows)])
    else:
        raise InvalidArgument("invalid format option")
    return 0


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(12, max(len(row[column]) for row in rows) + 3) for column in range(len(_HEADINGS))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("".join([*cells[:-1], row[-1]]))


def spec(call: "Call") -> int:
    """spec: write a first config.json; with --rootless one that needs no privileges."""
    from corten.linux import cgroup
    from corten.oci.runtime_spec import default_spec, to_rootless

    path = os.path.join(text(call.options, "bundle") or ".", "config.json")
    if os.path.exists(path):
        raise Conflict(f"File {path.removeprefix('./')} exists. Remove it first")
    document = default_spec(cgroup_namespace=not cgroup.hierarchies().v1)
    if call.options.get("rootless"):
        to_rootless(document, os.geteuid(), os.getegid())
    with open(path, "x", encoding="utf-8") as file:
        file.write(json.dumps(document, indent="\t") + "\n")
    return 0


def features(_call: "Call") -> int:
    """features: what this runtime knows."""
    from corten.linux import capabilities, schedule, seccomp
    from corten.linux.seccomp_tables import ARCHITECTURES
    from corten.oci import runtime_spec
    from corten.runtime import mount_options

    operators = [f"SCMP_CMP_{word}" for word in seccomp.OPERATORS]
    document = runtime_spec.features(
        mount_options.words(), list(capabilities.NAMES), list(seccomp.ACTIONS), list(ARCHITECTURES), operators,
        list(seccomp.FLAGS), list(schedule.MEMORY_MODES), list(schedule.MEMORY_FLAGS),
    )
    print(json.dumps(document, indent=4))
    return 0
