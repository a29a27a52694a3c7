"""Runs a notebook in an empty folder, from its first cell to its last, and fails on the first error.

    python tools/run_notebook.py docs/quickstart.ipynb [--write]

`--write` puts the outputs into the file, in place of those that are there. Needs nbclient and ipykernel, which
`pip install -e '.[test]'` brings.
"""

from __future__ import annotations

import argparse
import os
import re
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


def tidied(notebook, folder: str):
    """Without what differs from run to run or shows nothing: folders, colours, progress, a second form of pictures."""
    for cell in notebook.cells:
        outputs = []
        for output in cell.get("outputs", ()):
            last = outputs[-1] if outputs else None
            if last and output.output_type == last.output_type == "stream" and last.name == output.name:
                last.text += output.text
                continue
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/jpeg", None)
            for kind in ("text/plain", "text/html"):
                if kind in data:
                    data[kind] = plain(data[kind], folder)
            outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                output.text = plain(output.text, folder)
        if "outputs" in cell:
            cell.outputs = [output for output in outputs if output.get("text", "shown").strip()]
    return notebook


def plain(text: str, folder: str) -> str:
    """Text as it stands in a terminal at the end, with paths from `folder` and from the checkout."""
    text = text.replace("\x1b[2K", "\r")  # "erase the line", with which progress is written anew
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n") if "INFO:tensorflow" not in line]
    return "\n".join(lines).replace(f"{folder}/", "").replace(f"{ROOT}/", "")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--write", action="store_true", help="put the outputs into the file")
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        notebook = tidied(run(args.notebook, folder), folder)
    if args.write:
        import nbformat

        nbformat.write(notebook, args.notebook)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    print(f"{args.notebook}: {cells} cells in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
