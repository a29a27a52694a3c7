"""Steps in turn with those of other programs, which stand-ins play here."""

import json
import sys
import time

import pytest

from tests.detectors.small import small_detector
from tfdet.bench import peers
from tfdet.errors import UserError

PROGRAM = """
import json, sys
program, family, what, height, width, images, threads = sys.argv[1:]
assert [family, what, height, width, images, threads] == ["mask_fpn", "train", "512", "640", "2", "1"]
if program == "detectron2":
    import no_such_package_at_all
print(json.dumps({"versions": {"torch": "2.0", program: "1.5"}, "threads": 1}), flush=True)
for number, line in enumerate(sys.stdin):
    if number == 2:
        sys.exit("the loss is nan")
    print(json.dumps({"cpu": 3.0 - number, "wall": 2.0, "memory_peak": 1000 + number}), flush=True)
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    (tmp_path / "time_torch.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setattr(peers, "programs_folder", lambda: tmp_path)
    monkeypatch.setenv("TFDET_TORCH_PYTHON", sys.executable)
    return tmp_path / "time_torch.py"


def measure(own=lambda: [], repeats=2, tell=lambda _: None):
    return peers.measure_peers(own, "mask_fpn", "train", (512, 640), 2, repeats, 1, tell)


def test_sides_take_turns_and_the_least_counts(programs):
    told, calls = [], []
    sides = measure(lambda: calls.append(time.sleep(0.01)) or [], tell=told.append)
    assert list(sides) == ["tfdet", "torchvision"] and len(calls) == 4
    other = sides["torchvision"]
    assert other.took == (2.0, 2.0) and other.memory_peak == 1001 and other.versions == "torch 2.0, torchvision 1.5"
    assert sides["tfdet"].took.wall >= 0.01 and sides["tfdet"].memory_peak > 1e6
    (left_out,) = (line for line in told if "left out" in line)
    assert "No module named 'no_such_package_at_all'" in left_out


def test_a_program_that_fails_later_is_one_line(programs):
    with pytest.raises(UserError, match="does not run torchvision: the loss is nan"):
        measure(repeats=3)


def test_without_any_program_the_first_problem_is_said(programs, monkeypatch):
    programs.write_text("import no_such_package_at_all", encoding="utf-8")
    with pytest.raises(UserError, match="It needs torch and torchvision; TFDET_TORCH_PYTHON names"):
        measure()
    monkeypatch.setenv("TFDET_TORCH_PYTHON", str(programs.parent / "none"))
    with pytest.raises(UserError, match="TFDET_TORCH_PYTHON: .*none does not run"):
        measure()


def test_the_program_has_the_families_that_are_asked_for():
    source = (peers.programs_folder() / "time_torch.py").read_text(encoding="utf-8")
    named = {}
    exec(source[source.index("TORCHVISION = {") : source.index("CLASSES")], named)  # without importing torch
    assert {name: tuple(named[name.upper()]) for name in peers.FAMILIES} == peers.FAMILIES
    assert json.dumps(named["DETECTRON2"]).count(".yaml") == 7


def test_families_are_those_of_the_parts(monkeypatch):
    detector = small_detector("fpn")
    with pytest.raises(UserError, match="take a row of R50"):
        peers.family_of(detector)
    detector.backbone.depth = 50
    assert peers.family_of(detector) == "faster_fpn"
    detector.neck = None
    assert peers.family_of(detector) == "faster_c4"
    detector.bbox_heads = [detector.bbox_head] * 3
    with pytest.raises(UserError, match="neither torchvision nor Detectron2 has a cascade c4"):
        peers.family_of(detector)
