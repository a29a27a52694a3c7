"""Every gin file that is shipped: it parses, and building its detector reads all that concerns the model."""

from __future__ import annotations

import gin
import pytest

from tfdet import config
from tfdet.config.usage import unread_bindings

FOLDER = config.gin_configs_folder()
FOLDERS = ("", "examples", "learn", "detectron2", "torchvision")
FILES = sorted({path for name in FOLDERS for path in (FOLDER / name).glob("*.gin")} - {FOLDER / "learn/small.gin"})
FAMILIES = ("faster_", "mask_", "retina_", "trident_", "cascade_")
ZOO = [path for path in FILES if path.parent == FOLDER and path.name.startswith(FAMILIES)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_parses_and_every_model_binding_is_read(configured, path):
    config.register_all()
    # Depth and width do not matter to what is read; a full ResNet-101 takes a minute to build.
    text = _text_with_includes(path)
    narrow = ["WIDTH = 0.125"] if "%WIDTH" in text else []
    if "%DEPTH" in text:
        # The least that the backbone has: branches of ResNet-v1 are of bottleneck units.
        narrow += [f"DEPTH = {26 if '@ResNetV2' in text else 50 if 'ResNetV1.branches' in text else 18}"]
    configured([str(path)], narrow)
    gin.get_configurable("build_detector")(num_classes=3)
    left = unread_bindings(configured.now, ["tfdet.training", "tfdet.data"])
    assert not left, f"no part of the detector reads {left}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_begins_with_its_command(path):
    comment = [line for line in path.read_text().split("\n\n")[0].splitlines() if line.startswith("#")]
    assert any("train" in line and path.name in line for line in comment), f"{path.name}: say the command first"


@pytest.mark.parametrize("path", ZOO, ids=lambda path: str(path.relative_to(FOLDER)))
def test_zoo_files_say_what_to_expect_and_where_the_figure_is_from(path):
    comment = path.read_text().split("\n\n")[0]
    assert "AP" in comment and "SimpleDet" in comment


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_its_configuration_as_text_is_the_same(configured, path):
    config.register_all()
    configured([str(path)])
    text = configured.now.text()
    configured([], [text])
    assert configured.now.text() == text


def test_the_files_that_the_readme_names_are_there():
    readme = (FOLDER.parent / "README.md").read_text() if (FOLDER.parent / "README.md").is_file() else ""
    named = {word.split("gin_configs/")[1] for word in readme.replace("`", " ").split() if "gin_configs/" in word}
    missing = {name for name in named if name.endswith(".gin") and not (FOLDER / name).is_file()}
    assert not missing


def _text_with_includes(path) -> str:
    text = path.read_text()
    for line in text.splitlines():
        if line.startswith("include"):
            text += _text_with_includes(config.find_gin_file(line.split("'")[1], path))
    return text


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.name)
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
    configured(["faster_r101v2_c4_syncbn.gin", "base/finetune.gin"], [])
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
    configured([file], ["WIDTH = 0.125"])
    from tfdet.detectors import build_detector

    assert build_detector(num_classes=3).mask_paste == rule


@pytest.mark.parametrize("file", ["retina_r50v1_fpn.gin", "retina_r101v1_fpn.gin"])
def test_the_tiny_form_of_a_retina_row_has_no_binding_that_nobody_reads(configured, file):
    config.register_all()
    configured([file, "base/tiny_retina.gin"], ["WIDTH = 0.125", "TrainInput.data_dir = 'unused'"])
    from tfdet.detectors import build_detector
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    build_detector(num_classes=3), Trainer(), Schedule()
    configured.now.check_all_bindings_used(not_built=("EvalInput", "TrainInput"))
