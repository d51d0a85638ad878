"""Starting anchor and zygote: a bare interpreter that becomes both. Imports next to nothing, so as to come first."""

import os
import sys

import corten
from corten.base.paths import Layout

# What the interpreter is told: where the package is, then main's arguments.
COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from corten.zygote.main import main; sys.exit(main())"


def start_zygote(layout: Layout) -> None:
    """Returns when they are on their own, or when others were there already. Raises OSError."""
    import subprocess  # not for the zygote, which reads COMMAND here

    root = os.path.dirname(os.path.dirname(os.path.abspath(corten.__file__)))
    with open(f"{layout.exec_root}/zygote.log", "ab") as log:
        subprocess.run(
            [sys.executable, "-IS", "-c", COMMAND, root, layout.data_root, layout.exec_root],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", check=False,
        )
