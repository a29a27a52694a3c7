"""Compare what is found on whole photographs with what Detectron2 or torchvision found, from the JPEG to its pixels.

A golden folder with `jpeg_e2e.npz` holds, beside the detections, what the program's own loading, resize and
normalisation made of each photograph, and `jpeg_e2e_weights` its weights. The detector and the resize are those of the
family's gin file; the photographs are looked for by name in `--images`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError

_MATCHED, _COUNT, _TOP, _MASK_PIXELS = 0.97, 0.02, 20, 0.995
_DECODED = (1, 1e-3)  # levels that a decoder's pixels may differ by, and the share of the pixels that may
_INPUT = {"detectron2": 1e-6, "torchvision": 5e-5}  # of the normalised input, which is some units large


class PhotoRow(NamedTuple):
    """Agreement on one photograph."""

    file_name: str
    way: str  # through which of tfdet's doors
    input_error: float  # largest difference of the normalised network input; NaN where the way does not show it
    count: int  # stored detections
    missing: int  # stored detections without a partner: same class, IoU above .99, scores at most 1e-3 apart
    extra: int  # our detections without
    top_missing: int  # of the 20 best of either side, those without
    box: float  # largest difference of a coordinate of a pair, in pixels of the photograph
    box_mean: float
    score: float  # largest difference of the scores of a pair
    score_mean: float
    faults: tuple[str, ...]  # what is beyond its limit, in words

    @property
    def passed(self) -> bool:
        """Whether everything stays within its limit."""
        return not self.faults


def has_photos(folder: str | Path) -> bool:
    """Whether a golden folder holds whole photographs' detections."""
    return (Path(folder) / "jpeg_e2e.npz").is_file()


def check(folder: str | Path, images: str | Path, export: bool = False) -> list[PhotoRow]:
    """Detects on the photographs of a folder and compares; every configurable must have been registered.

    Args:
        folder: a golden folder with `jpeg_e2e.npz`.
        images: a folder that holds the photographs, at any depth.
        export: detect with an exported model too, by encoded and by decoded images.

    Raises:
        UserError: a file is missing or broken, or the network is not one of tfdet's.
    """
    golden, stored = _read(Path(folder))
    predictor, resize = _predictor(golden, stored)
    rows = []
    for index, name in enumerate(stored["file_names"]):
        photo = _find(Path(images), str(name))
        rows += list(_rows(golden, stored, index, photo, predictor, resize))
    if export:
        rows += _exported(golden, stored, Path(images), predictor, resize)
    return rows


def _read(folder: Path):
    from tfdet.weights import read_weights
    from tools.golden import torch_folder

    try:
        stored = dict(np.load(folder / "jpeg_e2e.npz"))
        stored |= {
            "sides": [json.loads((folder / "jpeg_e2e.json").read_text())[f"{end}_size"] for end in ("min", "max")]
        }
        meta = json.loads((folder / "meta.json").read_text())
        weights = next(folder.glob("jpeg_e2e_weights.*"))
    except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile) as error:
        raise UserError(f"{folder}: no photographs' golden: {error!r}") from error
    return torch_folder.make(folder, {**meta, "weights": weights.name}, read_weights(weights), {}, {}), stored


def _predictor(golden, stored):
    from tfdet import config
    from tfdet.predict.predictors import CheckpointPredictor
    from tfdet.predict.restore import evaluation_resize
    from tools.golden import torch_folder

    detector = torch_folder.build_like(golden)
    short_side, long_side = stored["sides"]
    sides = [f"EvalInput.short_side = {short_side}", f"EvalInput.long_side = {long_side}"]
    resize = evaluation_resize(config.parse([f"{golden.program}/{golden.family}.gin"], sides))
    return CheckpointPredictor(detector, resize, [], []), resize


def _find(images: Path, name: str) -> Path:
    for path in images.rglob("*.jpg"):
        if path.name == name:
            return path
    raise UserError(f"{images}: there is no photograph {name} in it")


def _rows(golden, stored, index: int, photo: Path, predictor, resize) -> Iterator[PhotoRow]:
    """The photograph decoded as `predict` and as the data pipeline do it."""
    import tensorflow as tf

    from tfdet.data.images import read_image
    from tfdet.data.schema import decode_rgb

    for way, pixels in (
        ("predict", read_image(photo)),
        ("records", decode_rgb(tf.constant(photo.read_bytes())).numpy()),
    ):
        faults = _decoding(stored, index, pixels)
        error, more = _network_input(golden, stored, index, pixels, predictor, resize)
        yield _compare(golden, stored, index, way, predictor(pixels), error, faults + more)


def _decoding(stored, index: int, pixels: np.ndarray) -> list[str]:
    sample = stored[f"decoded_sample_{index}"]
    if list(pixels.shape[:2]) != stored[f"original_hw_{index}"].tolist():
        return [f"decodes to {pixels.shape[:2]}"]
    levels = np.abs(pixels[::8, ::8].astype(int) - sample)
    if levels.max() > _DECODED[0] or (levels > 0).mean() > _DECODED[1]:
        return [f"pixels decode up to {levels.max()} levels apart, {(levels > 0).mean():.1%} of them"]
    return []


def _network_input(golden, stored, index: int, pixels: np.ndarray, predictor, resize) -> tuple[float, list[str]]:
    import tensorflow as tf

    from tfdet.data.resize import resize_image

    resized, info = resize_image(tf.constant(pixels), *resize)
    if resized.shape[:2].as_list() != stored[f"resized_hw_{index}"].tolist():
        return float("inf"), [f"resized to {resized.shape[:2].as_list()}"]
    ours = predictor.detector.normalize(resized[None], info[None])[0].numpy()
    theirs = stored[f"net_input_{index}"][0].transpose(1, 2, 0)
    theirs = theirs[..., ::-1] if golden.program == "detectron2" else theirs
    if ours.shape != theirs.shape:
        return float("inf"), [f"padded to {ours.shape[:2]}"]
    error = float(np.abs(ours - theirs).max())
    return error, [] if error <= _INPUT[golden.program] else [f"the network's input differs by {error:.1e}"]


def _exported(golden, stored, images: Path, predictor, resize) -> list[PhotoRow]:
    import tensorflow as tf

    from tfdet.data.images import read_image
    from tfdet.export.saved_model import export
    from tfdet.predict.exported import found_by_export, load_signatures

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        export(predictor.detector, os.path.join(folder, "model"), resize, [], [])
        signatures = load_signatures(os.path.join(folder, "model"))
        for index, name in enumerate(stored["file_names"]):
            photo = _find(images, str(name))
            pixels = read_image(photo)
            feeds = {"image_bytes": tf.constant([photo.read_bytes()]), "image_tensor": tf.constant(pixels[None])}
            for way, feed in feeds.items():
                found = found_by_export(signatures[way](feed), pixels, predictor.labels)
                rows.append(_compare(golden, stored, index, way, found, float("nan"), []))
    return rows


def _compare(golden, stored, index: int, way: str, found, input_error: float, faults: list[str]) -> PhotoRow:
    from tfdet.weights.verify import matched_pairs

    boxes, scores, classes = (stored[f"det_{key}_{index}"] for key in ("boxes", "scores", "classes"))
    first = 1 if golden.program == "torchvision" and not golden.family.startswith("retinanet") else 0
    pairs = matched_pairs(boxes, scores, classes, found.boxes, found.scores, found.class_ids + first)
    theirs, ours = (np.array(side, int) for side in (zip(*pairs, strict=True) if pairs else ([], [])))
    missing, extra = len(boxes) - len(pairs), len(found) - len(pairs)
    # The stored order is by score, and so is ours.
    top = [
        sum(row not in side for row in range(min(_TOP, size)))
        for side, size in ((theirs, len(boxes)), (ours, len(found)))
    ]
    box_gaps = np.abs(boxes[theirs] - found.boxes[ours]) if pairs else np.full([1, 4], np.inf)
    score_gaps = np.abs(scores[theirs] - found.scores[ours]) if pairs else np.full([1], np.inf)
    if len(pairs) < _MATCHED * len(boxes):
        faults = [*faults, f"{missing} of {len(boxes)} detections are not found"]
    if any(top):
        faults = [*faults, f"of the {_TOP} best {top[0]} are not found, {top[1]} of ours are not stored"]
    if abs(len(found) - len(boxes)) > _COUNT * len(boxes):
        faults = [*faults, f"{len(found)} detections, not {len(boxes)}"]
    faults = [*faults, *_masks(stored, index, found, theirs, ours)]
    figures = (box_gaps.max(), box_gaps.mean(), score_gaps.max(), score_gaps.mean())
    return PhotoRow(
        str(stored["file_names"][index]), way, input_error, len(boxes), missing, extra, sum(top),
        *(float(figure) for figure in figures), tuple(faults),
    )  # fmt: skip


def _masks(stored, index: int, found, theirs: np.ndarray, ours: np.ndarray) -> list[str]:
    """What is wrong with the masks of pairs; the share of the pixels of either that both have."""
    packed = stored.get(f"det_masks_{index}")
    if packed is None or not len(theirs):
        return []
    if found.masks is None:
        return ["there are no masks"]
    expected = np.unpackbits(packed, axis=-1)[..., : stored[f"det_masks_shape_{index}"][-1]].astype(bool)
    expected = expected.reshape(-1, *found.image.shape[:2])[theirs]
    masks = found.masks[ours]
    shared, joined = (masks & expected).sum(axis=(1, 2)), (masks | expected).sum(axis=(1, 2))
    agreement = shared.sum() / max(joined.sum(), 1)
    lost = int((joined > 0)[shared == 0].sum())
    faults = [f"masks share {agreement:.2%} of their pixels"] if agreement < _MASK_PIXELS else []
    return [*faults, f"{lost} masks share no pixel with theirs"] if lost else faults


def table(name: str, rows: Sequence[PhotoRow]):
    """The rows as a `rich.table.Table`."""
    from rich.table import Table

    columns = (
        "photograph",
        "way",
        "input",
        "stored",
        "missing",
        "extra",
        "of the best",
        "box, px",
        "mean",
        "score",
        "mean",
    )
    result = Table(*columns, title=f"{name}: whole photographs, largest and mean differences of the pairs")
    for row in rows:
        gaps = (row.box, row.box_mean, row.score, row.score_mean)
        counts = (row.count, row.missing, row.extra, row.top_missing)
        result.add_row(
            row.file_name, row.way, f"{row.input_error:.1e}", *map(str, counts), *(f"{gap:.1e}" for gap in gaps)
        )
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments."""
    parser = argparse.ArgumentParser(
        prog="photos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="golden folders with jpeg_e2e.npz")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="holds the photographs, at any depth")
    parser.add_argument("--export", action="store_true", help="detect with an exported model too")
    args = parser.parse_args(argv)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    try:
        return _run(args)
    except UserError as error:
        print(f"photos: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tfdet.config import register_all
    from tfdet.ops.tensor_float_32 import allow_tensor_float_32

    register_all()
    allow_tensor_float_32(False)
    console, passed = Console(), True
    for folder in args.folders:
        rows = check(folder, args.images, args.export)
        console.print(table(Path(folder).resolve().name, rows))
        for row in rows:
            for fault in row.faults:
                console.print(f"[red]{row.file_name}, {row.way}: {fault}")
        passed &= all(row.passed for row in rows)
    return EXIT_OK if passed else EXIT_CHECK_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
