"""The notebook's file: every cell ran, in order, without an error, and pictures are in it. `make notebook` runs it."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "quickstart.ipynb"
MAX_BYTES = 1_000_000


def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_all_cells_ran_in_order_without_an_error():
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert not [cell for cell in cells() for output in cell["outputs"] if output["output_type"] == "error"]


def test_pictures_are_in_the_file_and_it_is_small():
    outputs = [output for cell in cells() for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_nothing_of_the_machine_it_ran_on_is_left():
    text = NOTEBOOK.read_text()
    assert "\\u001b" not in text and "/tmp/" not in text and "site-packages" not in text
