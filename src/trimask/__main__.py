"""`python -m trimask` is `trimask`."""

import sys

if __name__ == "__main__":
    try:
        from trimask.cli import main
    except KeyboardInterrupt:  # from here on `main` answers it
        print("trimask: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(main())
