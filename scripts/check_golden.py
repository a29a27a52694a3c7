"""Compares detectors with stored outputs of other programs, from a source tree: `--help` says more."""

import sys
from pathlib import Path

# In place of this folder: its files must not be taken for modules of the same name.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tfdet.commands import run_module  # noqa: E402
from tools.golden import check  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_module(check, "check_golden.py"))
