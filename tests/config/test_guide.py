"""docs/configuration.md: the examples of what is refused get the answers that stand beside them."""

import re
from pathlib import Path

import pytest

from tfdet import config

ROOT = Path(__file__).resolve().parents[2]
# Refused when a file is read; what is found later, with the whole of a run, has tests of its own.
KINDS = (
    "unknown part",
    "unknown parameter",
    "undefined macro",
    "wrong type",
    "syntax",
    "none of the choices",
    "out of range",
    "another name in earlier versions",
)
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in (ROOT / "docs" / "configuration.md").read_text().splitlines()
    if line.startswith("|")
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_guide_says_what_is_answered(kind, refused):
    config.register_all()
    ((_, example, answer),) = (row for row in ROWS if row[0] == kind)
    message = refused(example.strip("`"), files=[str(ROOT / "gin_configs" / "faster_r50v1_fpn.gin")])
    parts = [part.strip() for part in answer.strip("`").split("...")]
    assert re.search(".*".join(map(re.escape, parts)), message), message
