"""The table of published weights in docs/weights.md."""

from pathlib import Path

import pytest

from tfdet.bench.results import read_results
from tfdet.errors import UserError
from tfdet.weights.published import everything
from tools import weights_table

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_has_the_table_of_today():
    """Where this fails: python -m tools.weights_table docs/weights.md."""
    text = (DOCS / "weights.md").read_text()
    assert weights_table.with_table(text, read_results(DOCS / "results.jsonl")) == text
    assert text.count("\n| [`") == len(everything())


def test_what_was_counted_stands_beside_the_file_that_fits():
    page = f"above\n{weights_table.BEGIN}\nold\n{weights_table.END}\nbelow\n"
    record = {"kind": "model", "row": "detectron2/trident_fast_r50_c4", "parameters": 1_500_000, "multiply_adds": 2e9}
    text = weights_table.with_table(page, [record])
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text
    lines = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| [")}
    assert "| 38.0 |  | 1.5M | 2G | Detectron2, " in lines["detectron2/tridentnet_fast_R_50_C4_1x"]
    assert "| 43.6 |  |  |  | " in lines["detectron2/tridentnet_fast_R_101_C4_3x"]  # of another depth than the row
    with pytest.raises(UserError, match="no place for the table"):
        weights_table.with_table("nothing", [])
