"""Checks that zoo rows work as a whole: two training steps at full size, frozen tensors, restoring, exporting.

    python -m tools.check_rows [ROW...] [--results docs/results.jsonl]

Of several rows each is checked in a process of its own, which gives its memory back.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tfdet import config
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError

IMAGE = (96, 128)
_OVERRIDES = (
    f"TrainInput.short_side = {IMAGE[0]}",
    f"TrainInput.long_side = {IMAGE[1]}",
    "TrainInput.order = 'mixed'",
    f"EvalInput.short_side = {IMAGE[0]}",
    f"EvalInput.long_side = {IMAGE[1]}",
    "Trainer.init_weights = None",
    # Frozen BN over random weights does not stand the recipe's rate, and a network that broke finds nothing.
    "Schedule.base_lr = 1e-4",
    "Trainer.steps = 2",
    "Trainer.log_every = 1",
)
_TWO_STAGE = (
    "RoiTargetSampler.num_rois = 4",
    "ProposalGenerator.pre_nms_top_n = (64, 64)",
    "ProposalGenerator.post_nms_top_n = (16, 8)",
    # Of a network that knows nothing every class is unlikely; something has to be found to be compared.
    "PostProcess.score_threshold = 0.001",
)
_DENSE = ("DensePostProcess.score_threshold = 0.001",)

TENSORS = {
    "faster_r50v1_c4": (169, 106),
    "faster_r50v1_c4_fp16": (169, 106),
    "faster_r50v1_c4_fp16_b4": (169, 106),
    "faster_r50v2_c4": (165, 102),
    "faster_r50v2_c4_fp16": (165, 102),
    "faster_r50v2_c4_fp16_b4": (165, 102),
    "cascade_r50v2_c5": (181, 102),
    "faster_r50v1_fpn": (189, 106),
    "mask_r50v1_fpn": (201, 106),
    "retina_r50v1_fpn": (195, 106),
    "trident_r50v2_c4": (165, 102),
    "faster_r101v2_c4": (318, 204),
    "faster_r101v2_c4_syncbn": (318, 204),
    "faster_r101v1_c4": (322, 208),
    "faster_r101v1_c4_fp16": (322, 208),
    "faster_r101v1_fpn": (342, 208),
    "cascade_r101v2_c5": (334, 204),
    "trident_r101v2_c4": (318, 204),
    "trident_fast_r101v2_c4": (318, 204),
    "retina_r101v1_fpn": (348, 208),
    "cascade_r50v1_fpn": (205, 106),
    "cascade_r101v1_fpn": (358, 208),
    "faster_dcn_r50v1b_c4_1x": (172, 106),
    "faster_dcn_r101v1b_c4_1x": (325, 208),
    **{f"faster_dcnv2_r50v1b_c4_{length}": (179, 106) for length in ("1x", "2x")},
    **{f"faster_dcnv2_r101v1b_c4_{length}": (349, 208) for length in ("1x", "2x")},
    # Of the later revision: two biases of fully connected layers less on FPN.
    **{
        f"{family}_r{depth}v1b_{trunk}_{length}": (tensors + 9 * more, 106 + 6 * more)
        for family, trunk, tensors in (
            ("faster", "c4", 169),
            ("trident", "c4", 169),
            ("trident_fast", "c4", 169),
            ("faster", "fpn", 187),
            ("mask", "fpn", 199),
            ("retina", "fpn", 195),
        )
        for depth, more in ((50, 0), (101, 17), (152, 34))  # units that ResNet-50 has not, of 9 and 6 tensors each
        for length in ("1x", "2x")
        if (family, length) != ("retina", "2x")
    },
}
"""Tensors of SimpleDet's checkpoint of each row, `arg:` and `aux:`, with BN not folded."""

_FIXED = ("conv0", "stage1", "gamma", "beta")
"""SimpleDet's fixed_param: what is frozen has one of these in its name (config/*.py; nothing in the SyncBN row)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows by name, such as faster_r50v1_c4 (default: all)")
    parser.add_argument("--results", metavar="FILE.jsonl", help="append the figures to this file (see `tfdet zoo`)")


def run(args: argparse.Namespace) -> int:
    """Checks, and says of each row what came out."""
    from tfdet.bench.results import append_result

    rows = args.rows or sorted(TENSORS)
    if unknown := [row for row in rows if row not in TENSORS]:
        raise UserError(f"there is no zoo row {unknown[0]}. There are: {', '.join(sorted(TENSORS))}")
    if len(rows) > 1:
        flags = [f"--results={args.results}"] if args.results else []
        command = [sys.executable, "-m", "tools.check_rows"]
        failed = [row for row in rows if subprocess.run([*command, row, *flags], check=False).returncode]
        print(f"{len(rows) - len(failed)} of {len(rows)} rows passed; failed: {', '.join(failed) or 'none'}")
        return EXIT_CHECK_FAILED if failed else EXIT_OK
    config.register_all()
    try:
        figures = check_row(rows[0])
    except UserError as error:
        print(f"{rows[0]}: FAILED: {error}")
        return EXIT_CHECK_FAILED
    print(f"{rows[0]}: {figures}")
    if args.results:
        append_result(args.results, "check", rows[0], **figures)
    return EXIT_OK


def check_row(name: str) -> dict[str, Any]:
    """Trains the row's full-size model for two steps on small drawn images, then restores, exports and verifies it.

    Args:
        name: of a zoo row. Every configurable must have been registered (`tfdet.config.register_all`).

    Returns:
        Figures: losses, tensor and frozen counts, largest differences of the export.

    Raises:
        UserError: anything is not as it should be.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, run, exported = (str(Path(folder) / part) for part in ("data", "run", "exported"))
        _draw(data)
        bindings = [*_OVERRIDES, *(_DENSE if name.startswith("retina") else _TWO_STAGE)]
        bindings += [f"TrainInput.data_dir = {data!r}", f"EvalInput.data_dir = {data!r}"]
        configuration = config.parse([f"{name}.gin"], bindings)
        with configuration.active():
            return _check(name, configuration, data, run, exported)


def _check(name: str, configuration, data: str, run: str, exported: str) -> dict[str, Any]:
    from tfdet.bench.training import tame_random_weights
    from tfdet.data.inputs import EvalInput, TrainInput
    from tfdet.detectors import build_detector
    from tfdet.export import saved_model, verify
    from tfdet.ops import native
    from tfdet.predict.predictors import CheckpointPredictor
    from tfdet.predict.restore import evaluation_resize
    from tfdet.training.loop import train
    from tfdet.training.observer import Observer
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    class Losses(Observer):
        def __init__(self):
            self.totals: list[float] = []

        def progressed(self, progress) -> None:
            self.totals.append(progress.total)

    trainer, schedule, losses = Trainer(), Schedule(), Losses()
    strategy, train_input = trainer.prepare(), TrainInput()
    with strategy.scope():
        detector = build_detector(num_classes=80)
    tame_random_weights(detector)
    EvalInput()
    configuration.check_all_bindings_used()
    counts = _counts(name, detector, trainer)
    train(detector, train_input, strategy, run, trainer, schedule, observers=[losses])
    if len(losses.totals) != 2 or not all(math.isfinite(total) for total in losses.totals):
        raise UserError(f"{name}: losses of two steps are {losses.totals}")
    restored = build_detector(num_classes=80)
    from tfdet.training.checkpoint import restore_detector

    restore_detector(restored, run)
    for ours, theirs in zip(detector.variables, restored.variables, strict=True):
        if not np.array_equal(ours.numpy(), theirs.numpy()):
            raise UserError(f"{name}: {ours.path} is not restored")
    classes, resize = [f"class {i}" for i in range(80)], evaluation_resize(configuration)
    saved_model.export(restored, exported, resize, classes, list(range(1, 81)), "python")
    # With the ops of the export: around a random network in half precision the last bit of a box decides what is
    # suppressed, and the export is what is checked here, not the ops.
    with native.implementation("python"):
        predictor = CheckpointPredictor(restored, resize, classes, list(range(1, 81)))
        differences = verify.verify(predictor, exported, verify.synthetic_images(1))
    if not all(entry.passed(verify.BOX_TOLERANCE, verify.SCORE_TOLERANCE) for entry in differences):
        raise UserError(f"{name}: the export does not find what the checkpoint finds: {differences[0]}")
    if not differences[0].num_detections:
        raise UserError(f"{name}: nothing is detected, so checkpoint and export cannot be compared")
    return {
        "losses": [round(total, 4) for total in losses.totals],
        **counts,
        "detections_compared": differences[0].num_detections,
    }


def _draw(folder: str) -> None:
    """Eight drawn images with COCO's number of classes."""
    from tfdet.data.annotations import Category
    from tfdet.data.convert import convert
    from tfdet.data.problems import ProblemReport
    from tfdet.data.shapes import draw_shapes

    annotations = draw_shapes(8, *IMAGE, seed=0, portrait_fraction=0.0)
    annotations.categories += [Category(i, f"class {i}") for i in range(len(annotations.categories) + 1, 81)]
    convert(annotations, folder, "shapes", "drawn shapes", ProblemReport(), num_shards=1, num_workers=0)


def _counts(name: str, detector, trainer) -> dict[str, int]:
    """Tensor counts, and what is frozen: as in SimpleDet's checkpoint, and by its rule on its names."""
    from tfdet.training import variables
    from tfdet.weights.maps import simpledet
    from tfdet.weights.maps.rules import source_of

    rules = simpledet.name_map(detector).rules
    named = {v.path: (source_of(v.path, rules) or ("", None))[0] for v in detector.variables}
    nameless = [path for path, source in named.items() if not source]
    if nameless:
        raise UserError(f"{name}: SimpleDet's name of {nameless[0]} is not known")
    args = {path for path, source in named.items() if source.startswith("arg:")}
    found = (len(args), len(named) - len(args))
    if found != TENSORS[name]:
        raise UserError(f"{name}: {found} arg and aux tensors, where SimpleDet has {TENSORS[name]}")
    fixed = () if name.endswith("syncbn") else _FIXED
    # MXNet gives a fixed gamma no gradient.
    expected = {p for p in args if named[p] == "arg:bn_data_gamma" or any(part in named[p] for part in fixed)}
    frozen = args - {variable.path for variable in variables.select_trained(detector, trainer.frozen)}
    if frozen != expected:
        raise UserError(f"{name}: frozen here and not in SimpleDet, or the other way: {sorted(frozen ^ expected)[:5]}")
    return {"arg_tensors": found[0], "aux_tensors": found[1], "frozen_arg_tensors": len(frozen)}


if __name__ == "__main__":
    from tfdet.commands import run_module

    sys.exit(run_module(sys.modules[__name__], "check_rows.py"))
