"""`python -m trimask` runs the command line."""

import sys

if __name__ == "__main__":
    try:
        from trimask.cli import main
    except KeyboardInterrupt:  # later ones are handled by `main`
        print("trimask: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(main())
