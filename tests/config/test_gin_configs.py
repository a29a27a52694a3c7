"""Every gin file that is shipped: it parses, and building its detector reads all that concerns the model."""

from __future__ import annotations

import ast
import re

import gin
import pytest

from tests.rows import model_text, zeros_for_random_weights
from tfdet import config
from tfdet.config.usage import unread_bindings
from tfdet.errors import UserError

FOLDER = config.gin_configs_folder()
FOLDERS = ("", "examples", "learn", "own_data", "detectron2", "detectron2/new_baselines", "mmdetection", "torchvision")
FILES = sorted({path for name in FOLDERS for path in (FOLDER / name).glob("*.gin")} - {FOLDER / "learn/small.gin"})
FAMILIES = ("faster_", "mask_", "retina_", "trident_", "cascade_")
ZOO = [path for path in FILES if path.parent == FOLDER and path.name.startswith(FAMILIES)]
PROGRAMS = ("detectron2", "new_baselines", "mmdetection", "torchvision")
ROWS = [*ZOO, *(path for path in FILES if path.parent.name in PROGRAMS)]
ALL = sorted(FOLDER.rglob("*.gin"))
INCLUDES = {
    path: [
        config.find_gin_file(line.split("'")[1], path)
        for line in path.read_text().splitlines()
        if line[:8] == "include "
    ]
    for path in ALL
}

ROOT = FOLDER.parent
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What was in gin_configs/base/, where users' commands and files may name it.
BASE = """
c4_trunk cascade cascade_c5_v2 continuous continuous_fpn continuous_mask continuous_retina d2 d2_c4 d2_cascade d2_fpn
d2_mask d2_mask_c4 d2_retina d2_schedule_1x d2_trident faster_c4 faster_c4_v2 faster_fpn faster_r_v1 finetune fpn_trunk
from_scratch mask profile_h profile_h_cascade profile_h_fpn profile_h_mask profile_h_retina profile_h_trident resnet_v2
retina_fpn schedule_1x schedule_1x_v2 small_fpn tiny tiny_c4 tiny_retina tiny_training trident_c4_v2 trident_fast tv_fpn
tv_retina tv_schedule two_stage
""".split()


_BUILT: set[str] = set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_parses_and_every_model_binding_is_read(configured, path):
    config.register_all()
    # Depth and width do not matter to what is read; a full ResNet-101 takes a minute to build.
    text = _text_with_includes(path)
    narrow = ["WIDTH = 0.125"] if "%WIDTH" in text else []
    if "%DEPTH" in text:
        # The least that the backbone has: what the options of ResNet-v1 concern are bottleneck units.
        needs_50 = re.search(r"ResNetV1\.(branches|dilate_c5|groups|deformable) ", text)
        narrow += [f"DEPTH = {26 if '@ResNetV2' in text else 50 if needs_50 else 18}"]
    configured([str(path)], narrow)
    model = model_text(configured.now)
    if model in _BUILT:
        return
    _BUILT.add(model)
    with zeros_for_random_weights():
        gin.get_configurable("build_detector")(num_classes=3)
    left = unread_bindings(configured.now, ["tfdet.training", "tfdet.data"])
    assert not left, f"no part of the detector reads {left}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_begins_with_its_command(path):
    comment = [line for line in path.read_text().split("\n\n")[0].splitlines() if line.startswith("#")]
    names = (path.name, f"--preset={path.stem}")
    assert any("train" in line and any(name in line for name in names) for line in comment), (
        f"{path.name}: say the command first"
    )


def test_every_row_says_what_to_expect_and_where_the_figure_is_from():
    rows = {row.name: row for row in config.zoo_rows(program=None)}
    assert set(rows) == {str(path.relative_to(FOLDER).with_suffix("")) for path in ROWS}
    for name, row in rows.items():
        assert row.program.lower() == name.partition("/")[0] or row.program == "SimpleDet" and "/" not in name
        assert row.title and row.source
        assert row.box_ap is None or 30 < row.box_ap < 55, name
        assert (row.mask_ap is not None) == ("mask" in name), name
        assert row.setting or (row.box_ap, row.memory_gb, row.images_per_second) == (None, None, None), name


def test_training_does_not_refuse_what_a_row_says_of_itself():
    config.register_all()
    configuration = config.parse(["faster_r50v1_c4.gin"])
    assert configuration.value("Row.box_ap") == 34.2
    assert not [binding for binding in unread_bindings(configuration) if binding.selector.endswith("Row")]


def test_a_row_says_its_figures_in_numbers():
    config.register_all()
    with pytest.raises(UserError, match="Row.memory_gb"):
        config.parse(["faster_r50v1_c4.gin"], ["Row.memory_gb = '8.4G'"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_its_configuration_as_text_is_the_same(configured, path):
    config.register_all()
    configured([str(path)])
    text = configured.now.text()
    configured([], [text])
    assert configured.now.text() == text


@pytest.mark.parametrize("path", ROWS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_row_includes_at_most_one_family_one_data_size_and_one_schedule(path):
    kinds = [included.parent.name for included in INCLUDES[path]]
    if kinds in (["gin_configs"], [FOLDER.name]):  # a variant of a row: all from there
        return
    assert sorted(kind for kind in kinds if kind != "overlays") == ["data", "families", "schedules"]
    assert "Schedule.warmup" not in path.read_text() and "short_side" not in path.read_text()


def test_a_part_of_a_row_includes_at_most_one_file():
    parts = [path for path in ALL if path not in FILES]
    assert len(parts) > 30
    assert not {str(path): INCLUDES[path] for path in parts if len(INCLUDES[path]) > 1}


def test_every_file_is_included_or_named_by_something():
    texts = {path: path.read_text() for path in ALL} | {path: path.read_text() for path in GUIDES}
    included = {file.resolve() for files in INCLUDES.values() for file in files}
    for path in set(ALL) - set(FILES):
        named = [other for other, text in texts.items() if other != path and re.search(rf"\b{path.name}", text)]
        assert path.resolve() in included or named, f"nothing includes or names {path}"


def test_the_files_that_the_guides_name_are_there():
    folders = "|".join(["base", *sorted(path.name for path in FOLDER.iterdir() if path.is_dir())])
    name = re.compile(rf"(?:gin_configs/|\b(?=(?:{folders})/)|\b(?=(?:{'|'.join(FAMILIES)})r))[\w/]+\.gin\b")
    found = {(path.name, match[0]) for path in GUIDES for match in name.finditer(path.read_text())}
    assert len(found) > 30
    known = {path.name for path in ALL} | {path.relative_to(FOLDER).as_posix() for path in ALL}
    missing = {(guide, name) for guide, name in found if name.removeprefix("gin_configs/") not in known}
    assert missing == {("configuration.md", "faster_r50_fpn.gin")}  # the example of a name that is not there


def test_every_file_is_installed():
    patterns = ast.literal_eval(re.search(r'"tfdet.gin_configs": (\[.*?\])', (ROOT / "setup.py").read_text())[1])
    depths = {pattern.count("/") for pattern in patterns}
    assert not [path for path in ALL if len(path.relative_to(FOLDER).parts) - 1 not in depths]


@pytest.mark.parametrize("name", BASE)
def test_the_old_names_say_where_the_file_is_now(name):
    with pytest.raises(UserError, match=rf"base/{name}.gin is (\S+) now") as error:
        config.find_gin_file(f"gin_configs/base/{name}.gin")
    assert (FOLDER / str(error.value).split(" is ")[1].split()[0]).is_file()


def test_what_users_were_told_of_is_an_overlay():
    for old, new in (("finetune", "finetune"), ("tiny_c4", "tiny_c4"), ("profile_h_fpn", "later_revision_fpn")):
        with pytest.raises(UserError, match=f"base/{old}.gin is overlays/{new}.gin now"):
            config.find_gin_file(f"base/{old}")


def _text_with_includes(path) -> str:
    text = path.read_text()
    for line in text.splitlines():
        if line.startswith("include"):
            text += _text_with_includes(config.find_gin_file(line.split("'")[1], path))
    return text


@pytest.mark.parametrize("path", [path for path in ZOO if not path.stem.endswith("_2x")], ids=lambda path: path.name)
def test_one_binding_gives_the_2x_schedule(configured, path):
    """12 epochs of 7,330 steps: the length of COCO's at 16 images."""
    config.register_all()
    lengths = []
    for params in ([], ["Schedule.length_factor = 2"]):
        configured([str(path)], params)
        schedule = gin.get_configurable("Schedule")()
        rate = schedule.for_batch(16)
        steps = gin.get_configurable("Trainer")().total_steps(14660, schedule.length_factor)
        lengths.append((steps, rate.boundaries, rate.warmup_steps, rate.base))
    (steps, decays, *rest), (long_steps, long_decays, *long_rest) = lengths
    assert steps == 6 * 14660 and decays == (60000, 80000)
    assert long_steps == 12 * 14660 and long_decays == (120000, 160000)
    assert long_rest == rest


def test_the_file_for_ones_own_data_changes_the_schedule_alone(configured):
    config.register_all()
    configured(["faster_r101v2_c4_syncbn.gin", "overlays/finetune.gin"], [])
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    trainer, schedule = Trainer(), Schedule()
    assert (trainer.epochs, trainer.clip, trainer.frozen) == (12.0, 5.0, ())
    assert (schedule.base_lr, schedule.decay, schedule.warmup_steps) == (0.02, "cosine", 100)
    assert schedule.warnings(2, 1230) == []


def test_detectron2s_tridentnet_learns_as_its_configuration_says(configured):
    """projects/TridentNet/configs/Base-TridentNet-Fast-C4.yaml of Detectron2."""
    config.register_all()
    configured(["detectron2/trident_fast_r50_c4.gin"], [])
    from tfdet.heads.proposals import ProposalGenerator
    from tfdet.targets.assigners import RoiTargetSampler

    sampler = RoiTargetSampler()
    assert (sampler.num_rois, sampler.fg_fraction, sampler.append_gt) == (128, 0.5, False)
    assert ProposalGenerator().post_nms_top_n == (500, 1000)


@pytest.mark.parametrize(
    "file, rule",
    [
        ("mask_r50v1_fpn.gin", "simpledet"),
        ("faster_r50v1_fpn.gin", "simpledet"),
        ("detectron2/cascade_mask_rcnn_r50_fpn.gin", "detectron2"),
        ("torchvision/maskrcnn_r50_fpn.gin", "torchvision"),
    ],
)
def test_masks_are_pasted_as_their_program_does(configured, file, rule):
    config.register_all()
    configured([file], ["WIDTH = 0.125", "DEPTH = 18"])
    from tfdet.detectors import build_detector

    assert build_detector(num_classes=3).mask_paste == rule


@pytest.mark.parametrize("file", ["retina_r50v1_fpn.gin", "retina_r101v1_fpn.gin"])
def test_the_tiny_form_of_a_retina_row_has_no_binding_that_nobody_reads(configured, file):
    config.register_all()
    configured([file, "overlays/tiny_retina.gin"], ["WIDTH = 0.125", "DEPTH = 18", "TrainInput.data_dir = 'unused'"])
    from tfdet.detectors import build_detector
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    build_detector(num_classes=3), Trainer(), Schedule()
    configured.now.check_all_bindings_used(not_built=("EvalInput", "TrainInput"))
