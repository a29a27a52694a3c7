"""Compare what is found on whole photographs with what Detectron2 or torchvision found, from the JPEG to its pixels.

A golden folder with `jpeg_e2e.npz` holds, beside the detections, what the program's own loading, resize and
normalisation made of each photograph, and `jpeg_e2e_weights` its weights. The detector and the resize are those of the
family's gin file; the photographs are looked for by name in `--images`.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdet.errors import UserError
from tfdet.weights import read_weights
from tfdet.weights.agreement import Rows, matched_pairs, measures
from tools.golden import torch_folder
from tools.golden.files import read_json
from tools.golden.torch_compare import unpacked_masks
from tools.golden.verdict import unusable

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
    box: float  # largest difference of a coordinate of a pair, in pixels of the photograph
    box_mean: float
    score: float  # largest difference of the scores of a pair
    score_mean: float
    faults: tuple[str, ...]  # what is beyond its limit, in words

    @property
    def passed(self) -> bool:
        """Whether everything stays within its limit."""
        return not self.faults


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
    meta, said = read_json(folder / "meta.json"), read_json(folder / "jpeg_e2e.json")
    try:
        stored = dict(np.load(folder / "jpeg_e2e.npz"))  # with the names of files, which `read_npz` does not take
        weights = next(folder.glob("jpeg_e2e_weights.*"))
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile) as error:
        raise UserError(f"{folder}: no photographs' golden: {error!r}") from error
    stored["sides"] = [said["min_size"], said["max_size"]]
    numbers = {name: array for name, array in stored.items() if name not in ("file_names", "sides")}
    if wrong := unusable(numbers, f"{folder}/jpeg_e2e.npz"):
        raise UserError(wrong[0])
    return torch_folder.make(folder, {**meta, "weights": weights.name}, read_weights(weights), {}, {}), stored


def _predictor(golden, stored):
    from tfdet import config
    from tfdet.predict.predictors import CheckpointPredictor
    from tfdet.predict.restore import evaluation_resize

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
    first = 1 if golden.program == "torchvision" and not golden.family.startswith("retinanet") else 0
    theirs = Rows(*(stored[f"det_{key}_{index}"] for key in ("boxes", "scores", "classes")))
    ours = Rows(found.boxes, found.scores, found.class_ids + first, found.masks)
    if f"det_masks_{index}" in stored:
        sides = found.image.shape[:2]
        masks = unpacked_masks(stored[f"det_masks_{index}"], stored[f"det_masks_shape_{index}"], *sides)
        theirs = theirs._replace(masks=masks)
        if masks is None or len(masks) != len(theirs.boxes) or found.masks is None:
            faults = [*faults, "there are no masks"]
    figures, pairs = measures(theirs, ours), matched_pairs(theirs, ours)
    faults = [*faults, *(f"{m.name}: {m.value:.2g}, at most {m.limit:.2g}" for m in figures if not m.passed)]
    rows, own = np.array(pairs, int).reshape(-1, 2).T
    gaps = [np.abs(theirs.boxes[rows] - ours.boxes[own]), np.abs(theirs.scores[rows] - ours.scores[own])]
    box, score = ((gap.max(), gap.mean()) if pairs else (np.inf, np.inf) for gap in gaps)
    unmatched = len(theirs.boxes) - len(pairs), len(ours.boxes) - len(pairs)
    name, numbers = str(stored["file_names"][index]), (float(number) for number in (*box, *score))
    return PhotoRow(name, way, input_error, len(theirs.boxes), *unmatched, *numbers, tuple(faults))


def table(name: str, rows: Sequence[PhotoRow]):
    """The rows as a `rich.table.Table`."""
    from rich.table import Table

    columns = ("photograph", "way", "input", "stored", "missing", "extra", "box, px", "mean", "score", "mean")
    result = Table(*columns, title=f"{name}: whole photographs, largest and mean differences of the pairs")
    for row in rows:
        gaps = (row.box, row.box_mean, row.score, row.score_mean)
        counts = (row.count, row.missing, row.extra)
        result.add_row(
            row.file_name, row.way, f"{row.input_error:.1e}", *map(str, counts), *(f"{gap:.1e}" for gap in gaps)
        )
    return result
