"""torchvision's speed comes from a process of its own; here another program stands in its place."""

import json
import sys

import pytest

from tfdet.errors import UserError
from tools import benchmark_torchvision as peer

FOUND = {
    "seconds": 1.23456,
    "cpu_seconds": 2.5,
    "least_cpu_seconds": 2.25,
    "threads": 2,
    "torch": "2",
    "torchvision": "0",
}


def program(tmp_path, monkeypatch, text):
    path = tmp_path / "program.py"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(peer, "_PROGRAM", path)
    monkeypatch.setenv("TFDET_TORCH_PYTHON", sys.executable)


def test_hands_over_what_is_asked_and_returns_the_figures(tmp_path, monkeypatch):
    wanted = ["train", "mask", "512", "640", "2", "7"]
    program(tmp_path, monkeypatch, f"import sys\nassert sys.argv[1:] == {wanted}\nprint({json.dumps(FOUND)!r})")
    figures = peer.benchmark_torchvision("train", "mask", 512, 640, 2, 7)
    assert figures["seconds"] == 1.235 and figures["cpu_seconds"] == 2.5 and figures["least_cpu_seconds"] == 2.25
    assert figures["image"] == "512x640" and figures["versions"] == "torch 2, torchvision 0"


def test_says_what_is_missing(tmp_path, monkeypatch):
    program(tmp_path, monkeypatch, "import no_such_package_at_all")
    with pytest.raises(UserError, match="No module named 'no_such_package_at_all'.*TFDET_TORCH_PYTHON"):
        peer.benchmark_torchvision("inference", "faster", 800, 1333, 1, 1)
    monkeypatch.setenv("TFDET_TORCH_PYTHON", str(tmp_path / "none"))
    with pytest.raises(UserError, match="does not run"):
        peer.benchmark_torchvision("inference", "faster", 800, 1333, 1, 1)
