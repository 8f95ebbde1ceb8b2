"""`python -m trimask` is `trimask`."""

import sys

from trimask.cli import main

if __name__ == "__main__":
    sys.exit(main())
