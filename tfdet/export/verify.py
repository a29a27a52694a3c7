"""Checks that an exported model finds on images what the checkpoint finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfdet.arguments import MAX_PIXELS
from tfdet.data.manifest import Manifest
from tfdet.data.records import read_serialized, record_table
from tfdet.data.schema import ENCODED, parse_record
from tfdet.export.orientation import orientation_of, turn_upright
from tfdet.export.saved_model import decode_image
from tfdet.predict.exported import SIGNATURES, found_by_export, load_signatures, read_labels
from tfdet.predict.found import Found, Labels

#: A constant folded at another place in the graph changes the last bits of a convolution; these are far above that and
#: far below anything that a wrong resize, a wrong weight or a swapped coordinate would do.
BOX_TOLERANCE = 0.05  # pixels of the original image
SCORE_TOLERANCE = 1e-3
MASK_TOLERANCE = 1e-2  # of the probability of a mask's pixel, which the smallest shift of a box moves more than a score
#: What is found on an image beside others of other sizes is what is found on it alone, by the same graph.
BATCH_BOX_TOLERANCE = 0.01  # pixels of the original image
BATCH_SCORE_TOLERANCE = 1e-5
_BATCHED = ("image_bytes", "tf_example")  # the signatures whose images may differ in size
_BATCH_SIZE = 3


@dataclasses.dataclass(frozen=True)
class Difference:
    """How one signature differs from the checkpoint over all images."""

    signature: str
    num_images: int
    num_detections: int  # of the checkpoint
    missing: int  # detections of the checkpoint that the export lacks
    extra: int  # detections that the export alone has
    box: float  # largest difference of a coordinate among the pairs, pixels of the original image
    score: float  # largest difference of a score among the pairs
    mask: float | None = None  # largest difference of a mask's pixel among the pairs; None where there are no masks
    # Of the export alone: images by themselves, and in one batch of several sizes and both orientations.
    batch_changed: int = 0  # detections that come or go with the batch
    batch_box: float = 0.0  # largest difference of a coordinate among the others
    batch_score: float = 0.0  # largest difference of a score

    @property
    def same_in_batch(self) -> bool:
        """Whether the export finds on an image in a batch of several sizes what it finds on it alone."""
        near = self.batch_box <= BATCH_BOX_TOLERANCE and self.batch_score <= BATCH_SCORE_TOLERANCE
        return self.batch_changed == 0 and near

    def describe(self) -> str:
        """The differences as a part of a sentence."""
        mask = "" if self.mask is None else f", masks {self.mask:.2g}"
        batch = "" if self.same_in_batch else ", in a batch not what it finds alone"
        pairs = f"boxes {self.box:.2g} px, scores {self.score:.2g}{mask}"
        return (
            f"{self.signature}: {self.missing} missing and {self.extra} extra of {self.num_detections}, {pairs}{batch}"
        )

    def passed(self, box_tolerance: float = BOX_TOLERANCE, score_tolerance: float = SCORE_TOLERANCE) -> bool:
        """Whether all detections have a partner within the tolerances."""
        near = self.box <= box_tolerance and self.score <= score_tolerance and (self.mask or 0.0) <= MASK_TOLERANCE
        return self.missing == 0 and self.extra == 0 and near and self.same_in_batch


def verify(
    predictor: Callable[[np.ndarray], Found],
    folder: str,
    encoded_images: Sequence[bytes],
    box_tolerance: float = BOX_TOLERANCE,
    score_tolerance: float = SCORE_TOLERANCE,
    max_pixels: int = MAX_PIXELS,
) -> list[Difference]:
    """Runs the same images through the checkpoint and through each signature of the SavedModel.

    Some of them, upright and lying, also go in one batch through the signatures that take images of several sizes.

    Args:
      predictor: the checkpoint's way from uint8 [H, W, 3] to a `Found` (`CheckpointPredictor`).
      folder: the SavedModel.
      encoded_images: JPEG or PNG files' contents.
      box_tolerance: how far partners may lie apart, in pixels of the original image.
      score_tolerance: how far their scores may lie apart.
      max_pixels: most pixels of an image, height times width.

    Returns:
      A `Difference` for each signature.

    Raises:
      UserError: the folder is no SavedModel of a detector.
    """
    signatures, labels = load_signatures(folder), read_labels(folder) or Labels([], [])
    images = [decode_image(tf.constant(encoded), max_pixels) for encoded in encoded_images]
    upright = [turn_upright(image, encoded) for image, encoded in zip(images, encoded_images)]
    as_stored = [predictor(image.numpy()) for image in images]
    turned = [
        found if int(orientation_of(encoded)) == 1 else predictor(image.numpy())
        for image, encoded, found in zip(upright, encoded_images, as_stored)
    ]
    feeds = {
        "image_bytes": [tf.constant([encoded]) for encoded in encoded_images],
        "image_tensor": [image[None] for image in images],
        "tf_example": [tf.constant([_record(encoded)]) for encoded in encoded_images],
    }
    differences, batch = [], mixed_sizes([image.numpy() for image in images])
    pngs = [tf.io.encode_png(image).numpy() for image in batch]

    def batch_of(encoded: Sequence[bytes], name: str = "image_bytes") -> list[Found]:
        output = signatures[name](tf.constant([_record(x) if name == "tf_example" else x for x in encoded]))
        return [found_by_export(output, batch[index], labels, index=index) for index in range(len(encoded))]

    alone = [batch_of([png])[0] for png in pngs]
    for name in SIGNATURES:
        outputs = [signatures[name](feed) for feed in feeds[name]]
        expected, seen = (turned, upright) if name == "image_bytes" else (as_stored, images)
        found = [found_by_export(output, image.numpy(), labels) for output, image in zip(outputs, seen)]
        pairs = [compare(a, b, box_tolerance, score_tolerance) for a, b in zip(expected, found)]
        together = batch_of(pngs, name) if name in _BATCHED and pngs else alone
        shifts = [compare(a, b, BATCH_BOX_TOLERANCE, BATCH_SCORE_TOLERANCE) for a, b in zip(alone, together)]
        differences.append(
            Difference(
                signature=name,
                num_images=len(images),
                num_detections=sum(map(len, expected)),
                missing=sum(pair[0] for pair in pairs),
                extra=sum(pair[1] for pair in pairs),
                box=max((pair[2] for pair in pairs), default=0.0),
                score=max((pair[3] for pair in pairs), default=0.0),
                mask=max((pair[4] for pair in pairs if pair[4] is not None), default=None),
                batch_changed=sum(shift[0] + shift[1] for shift in shifts),
                batch_box=max((shift[2] for shift in shifts), default=0.0),
                batch_score=max((shift[3] for shift in shifts), default=0.0),
            )
        )
    return differences


def compare(
    expected: Found, found: Found, box_tolerance: float, score_tolerance: float
) -> tuple[int, int, float, float, float | None]:
    """Pairs the detections of one image, whatever the order of near-equal scores.

    Args:
      expected: the checkpoint's detections.
      found: the export's.
      box_tolerance: pixels of the original image.
      score_tolerance: of the scores.

    Returns:
      The number of expected ones without a partner, of found ones without, and the largest differences of a coordinate,
      of a score and of a mask's pixel (None: neither has masks). A detection has a partner when one of its class lies
      nearest and has not been taken; where none is within the tolerances but the counts of the class agree, the
      differences say how far apart they are.
    """
    free = list(range(len(found)))
    missing, worst_box, worst_score = 0, 0.0, 0.0
    worst_mask = None if expected.mask_probabilities is None and found.mask_probabilities is None else 0.0
    for index, (box, kind, score) in enumerate(zip(expected.boxes, expected.class_ids, expected.scores)):
        candidates = [other for other in free if found.class_ids[other] == kind]
        if not candidates:
            missing += 1
            continue
        box_gaps = np.abs(found.boxes[candidates] - box).max(axis=1)
        score_gaps = np.abs(found.scores[candidates] - score)
        # In units of the tolerances, so that of two equal boxes the one with the same score is taken.
        best = int(np.argmin(np.maximum(box_gaps / box_tolerance, score_gaps / score_tolerance)))
        worst_box = max(worst_box, float(box_gaps[best]))
        worst_score = max(worst_score, float(score_gaps[best]))
        if worst_mask is not None:
            pair = (expected[index].mask_probabilities, found[candidates[best]].mask_probabilities)
            masks = [None if mask is None else mask[0] for mask in pair]
            comparable = all(mask is not None for mask in masks) and masks[0].shape == masks[1].shape
            worst_mask = max(worst_mask, float(np.abs(masks[0] - masks[1]).max()) if comparable else float("inf"))
        free.remove(candidates[best])
    # NaN compares with nothing: it must not pass as "no difference".
    parts = [part for one in (expected, found) for part in (one.boxes, one.scores, one.mask_probabilities)]
    if not all(np.isfinite(part).all() for part in parts if part is not None):
        worst_box = worst_score = float("inf")
    return missing, len(free), worst_box, worst_score, worst_mask


def table(differences: Sequence[Difference], box_tolerance: float, score_tolerance: float):
    """The differences as a `rich.table.Table`, with the tolerances in its title; infinite ones judge nothing."""
    from rich.table import Table

    from tfdet.terminal import shown

    # The images are not in a column: the table is narrower than 80 characters.
    count = max((entry.num_images for entry in differences), default=0)
    judged = bool(np.isfinite(box_tolerance))
    limits = f"tolerance: boxes {box_tolerance:g} px, scores {score_tolerance:g}, masks {MASK_TOLERANCE:g}"
    title = f"checkpoint and export on {count} image(s) ({limits if judged else 'AP decides'})"
    result = Table(title=title, title_justify="left")
    result.add_column("signature", no_wrap=True)
    for name in ("found", "missing", "extra", "box, px", "score", "mask"):
        result.add_column(name, justify="right")
    result.add_column("", no_wrap=True, min_width=len("DIFFERS"))
    for entry in differences:
        passed = entry.passed(box_tolerance, score_tolerance)
        numbers = (entry.num_detections, entry.missing, entry.extra)
        result.add_row(
            entry.signature,
            *(str(number) for number in numbers),
            f"{entry.box:.2g}",
            f"{entry.score:.2g}",
            "-" if entry.mask is None else f"{entry.mask:.2g}",
            shown("equal", "green") if passed else shown("DIFFERS", "red") if judged else shown("-"),
        )
    if not any(entry.signature in _BATCHED for entry in differences):
        return result
    count = sum(entry.batch_changed for entry in differences)
    worst = (max((getattr(entry, f"batch_{name}") for entry in differences), default=0.0) for name in ("box", "score"))
    result.caption = "alone and in one batch of several sizes: {} come or go, boxes {:.2g} px, scores {:.2g}".format(
        count, *worst
    )
    result.caption_justify = "left"
    return result


def mixed_sizes(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Images of which no two are of one size, for a batch: lying and upright ones, the first of those given first.

    Args:
      images: uint8 [H, W, 3] each.

    Returns:
      Three at most: images as they are, the first turned by a quarter, the upper half of the first.
    """
    chosen: dict[tuple[int, ...], np.ndarray] = {}
    for first in images[:1]:
        for image in (first, np.rot90(first), *images[1:], first[: max(1, len(first) // 2)]):
            chosen.setdefault(image.shape[:2], np.ascontiguousarray(image))
    return list(chosen.values())[:_BATCH_SIZE]


def synthetic_images(count: int = 2, seed: int = 0) -> list[bytes]:
    """Encoded pictures for a check without a data set: bright blocks on noise, of several sizes.

    Args:
      count: how many.
      seed: the same seed gives the same pictures.

    Returns:
      PNG files' contents.
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        height, width = (240, 320) if index % 2 == 0 else (333, 201)
        image = rng.integers(60, 120, [height, width, 3]).astype(np.uint8)
        for _ in range(6):
            top, left = rng.integers(0, height - 40), rng.integers(0, width - 40)
            rows, columns = rng.integers(20, 120, 2)
            image[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
        pictures.append(tf.io.encode_png(image).numpy())
    return pictures


def images_of_records(folder: str, count: int) -> list[bytes]:
    """The first encoded images of a data set, as they lie in its records.

    Args:
      folder: the data set.
      count: how many at most.

    Returns:
      The images' bytes.

    Raises:
      UserError: the folder is no data set.
    """
    manifest = Manifest.load(folder)
    index = manifest.load_index()
    table = record_table(manifest, index)
    return [parse_record(read_serialized(table, row)).encoded.numpy() for row in range(min(count, len(index)))]


def _record(encoded: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    return tf.train.Example(features=tf.train.Features(feature={ENCODED: feature})).SerializeToString()
