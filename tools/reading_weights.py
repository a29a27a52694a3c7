"""Measures time and memory of reading a weight file.

python -m tools.reading_weights FILE
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tfdet.errors import EXIT_OK
from tfdet.weights import find_weights
from tfdet.weights.formats import read_weights
from tools.peak_memory import peak_memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the file."""
    parser.add_argument("weights", metavar="FILE", help="path or short name; or the folder of a run of tfdet")


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    print(measure_reading(find_weights(args.weights)))
    return EXIT_OK


def measure_reading(path: Path) -> str:
    """Reads a weight file twice and says what it took, in one line.

    Args:
        path: as `read_weights` takes it.
    """

    def read():
        return {name: float(array.sum()) for name, array in read_weights(path).items()}  # every page is touched

    begin = time.perf_counter()
    read()
    seconds, peak = time.perf_counter() - begin, peak_memory(read)
    files = [path] if path.is_file() else [p for p in path.parent.glob(f"{path.name}*") if p.is_file()]
    files = list(path.glob("*.data-*")) if path.is_dir() else files
    size = sum(file.stat().st_size for file in files)
    shown = "not known here" if peak is None else f"{peak / 1e6:.0f} MB, {peak / max(size, 1):.2f} times the file"
    return f"file of {size / 1e6:.0f} MB read and summed in {seconds:.2f} s; memory at the peak: {shown}"


if __name__ == "__main__":
    from tfdet.commands import run_module

    sys.exit(run_module(sys.modules[__name__], "reading_weights.py"))
