"""Trains a small detector of every family on drawn shapes: `python scripts/learn.py --help`."""

import sys
from pathlib import Path

# In place of this folder: its files must not be taken for modules of the same name.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tfdet.commands import run_module  # noqa: E402
from tools import learning  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_module(learning, "learn.py"))
