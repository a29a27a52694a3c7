"""The `tfdet launch` command, from a source tree: `python scripts/launch.py --help`."""

import sys
from pathlib import Path

# In place of this folder: its files must not be taken for modules of the same name.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tfdet.commands import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["launch", *sys.argv[1:]]))
