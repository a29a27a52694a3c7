"""Runs a notebook in an empty folder, from its first cell to its last, and fails on the first error.

    python tools/run_notebook.py docs/quickstart.ipynb [--write]

`--write` puts the outputs into the file, in place of those that are there. Needs nbclient and ipykernel, which
`pip install -e '.[test]'` brings.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CELL_SECONDS = 600


def run(path: Path, folder: str):
    """The executed notebook.

    Args:
        path: of the notebook.
        folder: the current one of its cells.

    Raises:
        CellExecutionError: a cell raised an exception.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": folder}},
    )  # fmt: skip
    # The `tfdet` command and the modules are those of this interpreter and this checkout.
    search = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
    changed = {name: os.pathsep.join([first, *filter(None, [os.environ.get(name)])]) for name, first in search.items()}
    client.execute(env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **changed})
    return notebook


def tidied(notebook):
    """Without what differs from run to run and shows nothing: streams in pieces, pictures in a second format."""
    for cell in notebook.cells:
        outputs = []
        for output in cell.get("outputs", ()):
            last = outputs[-1] if outputs else None
            if last and output.output_type == last.output_type == "stream" and output.name == last.name:
                last.text += output.text
                continue
            if "image/png" in output.get("data", {}):
                output.data.pop("image/jpeg", None)
            outputs.append(output)
        if "outputs" in cell:
            cell.outputs = outputs
    return notebook


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--write", action="store_true", help="put the outputs into the file")
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        notebook = tidied(run(args.notebook, folder))
    if args.write:
        import nbformat

        nbformat.write(notebook, args.notebook)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    print(f"{args.notebook}: {cells} cells in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
