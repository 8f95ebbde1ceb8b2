"""The command line: one verb per file. Heavy modules are imported only by the verbs that need them."""

import sys
from collections.abc import Sequence

from trimask.cli.interrupt import INTERRUPTED, exit_process, handle_interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status.

    With None, run the arguments of this process, and end the process with that status.
    """
    if argv is not None:
        return _run(argv)
    handle_interrupts()
    try:
        status = _run(None)
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being reported
        status = INTERRUPTED
    exit_process(status)


def _run(argv: Sequence[str] | None) -> int:
    try:
        # Imported here, so that Ctrl-C during the import is reported like any other.
        from trimask.cli.entry import main as run

        return run(argv)
    except KeyboardInterrupt:
        print("trimask: interrupted", file=sys.stderr)
        return INTERRUPTED


__all__ = ["main"]
