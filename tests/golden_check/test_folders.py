"""Folders that are not whole, of other kinds, or of networks that tfdet does not build: one line each, no traceback."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from tests.golden_check import stored
from tests.golden_check.stored import GOLDEN
from tfdet.commands import run_module
from tools.golden import check as command
from tools.golden import photos, simpledet_check, torch_folder
from tools.golden.simpledet_folder import read_golden
from tools.golden.torch_check import judge
from tools.golden.verdict import Verdict

FAST = GOLDEN / "torch_small" / "d2_trident_fast_r50_c4"
TV = GOLDEN / "torch_small" / "tv_fasterrcnn_r50_fpn"
C4 = GOLDEN / "simpledet" / "faster_r50v1c4_c5_512roi_1x"


@pytest.fixture
def copy(tmp_path):
    def make(folder):
        return shutil.copytree(folder, tmp_path / folder.name)

    return make


def run(*argv):
    return run_module(command, "check_golden.py", argv)


def refused(folder, capsys, code=2):
    assert run(str(folder)) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("check_golden: error: ")
    return lines[0]


@pytest.mark.parametrize("source", [FAST, C4, TV], ids=lambda folder: folder.name)
def test_a_file_that_is_gone_or_broken_is_named(copy, capsys, source):
    for name in sorted(path.name for path in source.iterdir() if path.name != "noise.json"):
        folder = copy(source)
        (folder / name).unlink()
        assert name in refused(folder, capsys)
        (folder / name).write_bytes(b"\0\1\2 [")
        assert name in refused(folder, capsys)
        shutil.rmtree(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"row"', "{}", '{"row": 7}', '{"model": 3}', "[" * 10**5])
def test_any_meta_json_is_one_line(copy, capsys, text):
    folder = copy(C4)
    (folder / "meta.json").write_text(text)
    assert str(folder) in refused(folder, capsys)


@pytest.mark.parametrize("name", ["model", "weights", "conventions", "state_dict"])
def test_a_missing_or_mistyped_entry_of_meta_is_named(copy, capsys, name):
    folder = copy(FAST)
    meta = json.loads((folder / "meta.json").read_text())
    for value in (None, 7):
        (folder / "meta.json").write_text(json.dumps(meta | {name: value}))
        assert f"meta.json: {name} is missing or no" in refused(folder, capsys)


def test_noise_that_is_gone_fails_and_broken_noise_is_one_line(copy, capsys):
    folder = copy(FAST)
    (folder / "noise.json").write_text('{"noise_max": 3}')
    assert "noise_max and noise_samples must be objects" in refused(folder, capsys)
    (folder / "noise.json").unlink()
    noise = torch_folder.read(folder).noise
    assert noise.floors == {} and "noise.json: is missing" in noise.findings[0]


def add_tensors(folder, **tensors):
    arrays = dict(np.load(folder / "weights.npz"))
    np.savez(folder / "weights.npz", **arrays, **{name.replace("__", "."): array for name, array in tensors.items()})


def set_line(folder, name, value):
    text = (folder / "config.yaml").read_text()
    changed = re.sub(rf"(?m)^( +{name}): .*$", rf"\1: {value}", text)
    assert changed != text
    (folder / "config.yaml").write_text(changed)


@pytest.mark.parametrize(
    "change,part",
    [
        (lambda folder: set_line(folder, "RES5_DILATION", 2), "a dilated res5 within a pyramid or a head"),
    ],
)
def test_a_network_that_tfdet_does_not_build_is_named_by_its_part(copy, capsys, change, part):
    folder = copy(FAST)
    change(folder)
    assert f"not compared; tfdet does not build {part}" in refused(folder, capsys)


def test_other_folders_are_said_to_be_others(tmp_path, capsys):
    assert "no such folder" in refused(tmp_path / "none", capsys)
    assert "it has no meta.json" in refused(tmp_path, capsys)
    (tmp_path / "meta.json").write_text('{"sample_stride": {}}')
    assert "of no kind that is known" in refused(tmp_path, capsys)
    np.savez(tmp_path / "trajectory.npz", lr=np.zeros(3))
    assert "a training trajectory" in refused(tmp_path, capsys)
    assert "nothing here is compared" in refused(GOLDEN / "ops", capsys)


def test_what_comes_after_a_refused_folder_is_checked(tmp_path, copy, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "_check_torch", lambda folder, *_: seen.append(folder) or True)
    assert run(str(tmp_path / "none"), str(FAST)) == 2
    assert seen == [FAST] and "no such folder" in capsys.readouterr().err
    monkeypatch.setattr(command, "_check_torch", lambda folder, *_: {}["shape"])
    assert "its arrays or figures do not fit together (KeyError: 'shape')" in refused(FAST, capsys)


def test_whole_photographs_are_compared_or_named(tmp_path, monkeypatch):
    empty = Verdict([], [], [], [], {})

    def judged(images=None):
        args = SimpleNamespace(images=images, export=False)
        return command._with_photographs(tmp_path, empty, args, Console(quiet=True))

    assert judged() == empty
    (tmp_path / "jpeg_e2e.json").write_text("{}")
    gone = "jpeg_e2e.npz: is missing, of a folder with whole photographs"
    assert gone in judged("photos").findings and gone in judged().findings
    for name in ("jpeg_e2e.npz", "jpeg_e2e_weights.pkl"):
        (tmp_path / name).write_bytes(b"")
    assert not judged().findings and "--images" in judged().not_compared["jpeg_e2e.npz"]
    wrong = photos.PhotoRow("a.jpg", "predict", 0.0, 1, 0, 0, 0.0, 0.0, 0.0, 0.0, ("decodes to (1, 1)",))
    monkeypatch.setattr(photos, "check", lambda *_: [wrong, wrong._replace(faults=())])
    assert judged("photos").findings == ["a.jpg, predict: decodes to (1, 1)"]
    monkeypatch.setattr(photos, "check", lambda *_: [])
    assert judged("photos").findings == ["jpeg_e2e.npz: holds no photographs"]


def test_a_tolerance_that_lets_all_pass_is_refused(capsys):
    for tolerance in ("nan", "1", "-1"):
        assert run(str(C4), f"--tolerance={tolerance}") == 2
        assert "--tolerance" in capsys.readouterr().err


def test_every_golden_folder_of_the_repository_is_read():
    for path in (GOLDEN / "torch_small").glob("*/meta.json"):
        assert torch_folder.read(path.parent).noise.findings == []
    for path in (GOLDEN / "simpledet").glob("*/meta.json"):
        assert read_golden(path.parent).outputs


def test_a_folder_does_not_say_itself_what_it_may_lack(copy):
    """Only who calls with `partial` lets `left_out` of its `meta.json` count."""
    folder = copy(FAST)
    arrays = dict(np.load(folder / "golden.npz"))
    del arrays["box_head_out"]
    np.savez(folder / "golden.npz", **arrays)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"left_out": [*meta["left_out"], "box_head_out"]}))
    computed = stored.as_computed(stored.read(FAST.name))
    for partial in (False, True):
        lacks = {line for line in judge(torch_folder.read(folder, partial), computed).findings if "is missing" in line}
        assert ("golden.npz: box_head_out is missing" in lacks) != partial
    own = read_golden(C4, partial=True)
    computed = dict(own.outputs) | {name.partition(":")[0]: array for name, array in own.outputs.items()}
    computed |= {name: np.zeros(1) for name in own.left_out}
    assert simpledet_check.judge(own, computed).passed
    assert "is missing" in simpledet_check.judge(read_golden(C4), computed).findings[0]
