"""`python -m tfdet` is the `tfdet` command."""

import sys

from tfdet.commands import main

if __name__ == "__main__":
    sys.exit(main())
