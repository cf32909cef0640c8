"""`python -m evonas`: the command line."""

import sys

from evonas.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
