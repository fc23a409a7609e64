"""`python -m covsde`, the same as the command `covsde`."""

import sys

from covsde.cli import main

if __name__ == "__main__":
    sys.exit(main())
