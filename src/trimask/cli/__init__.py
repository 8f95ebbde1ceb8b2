"""The command line: one verb per file. Nothing heavy is imported before a verb needs it."""

import sys
from collections.abc import Sequence

from trimask.cli.interrupt import INTERRUPTED, exit_process, handle_interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status; by default the process's own, which it ends."""
    if argv is not None:
        return _run(argv)
    handle_interrupts()
    try:
        status = _run(None)
    except KeyboardInterrupt:  # another one, while the first was told
        status = INTERRUPTED
    exit_process(status)


def _run(argv: Sequence[str] | None) -> int:
    try:
        # Here, so that Ctrl-C while this is imported is told like any other.
        from trimask.cli.entry import main as run

        return run(argv)
    except KeyboardInterrupt:
        print("trimask: interrupted", file=sys.stderr)
        return INTERRUPTED


__all__ = ["main"]
