"""The command line: one verb per file. Nothing heavy is imported before a verb needs it."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own) and return its exit status."""
    try:
        # Here, so that Ctrl-C while this is imported is told like any other.
        from trimask.cli.entry import main as run
    except KeyboardInterrupt:
        print("trimask: interrupted", file=sys.stderr)
        return 130
    return run(argv)


__all__ = ["main"]
