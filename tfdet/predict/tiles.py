"""Large photos in overlapping tiles: each is detected on as an image of its own, and what was found is put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from tfdet.arguments import number, whole_number
from tfdet.errors import UserError
from tfdet.predict.found import Found, Labels
from tfdet.predict.fusion import areas, intersections, moved_mask, suppress, weighted_box_fusion

Merge = Literal["nms", "wbf"]
LEAST_SIDE = 32  # pixels

_SAME_SPAN = 0.5  # the overlap, across the border, of two pieces of one object
_WITHIN = 0.8  # the part of a piece's area within the whole object
_MARGIN = 0.01  # of the tile's side: so near to a border a box is cut by it; detectors end it a little off
_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)


@dataclasses.dataclass(frozen=True)
class Tiles:
    """How an image is cut, and how what is found is put together.

    Args:
        side: of the square tiles, in pixels of the image; one that is no larger in both directions is not cut.
        overlap: of neighbours, as a part of the side, 0..0.9. Objects up to so large are whole in one tile.
        merge: of boxes of one class that overlap: "nms" keeps the best, "wbf" takes their weighted mean.
        full_image: detect on the whole image too, for objects that are larger than a tile.
        iou_threshold: from which overlap on two boxes are of one object.

    Raises:
        UserError: a value is none of these.
    """

    side: int
    overlap: float = 0.2
    merge: Merge = "nms"
    full_image: bool = False
    iou_threshold: float = 0.5

    def __post_init__(self):
        whole_number("tile", self.side, LEAST_SIDE)
        number("tile_overlap", self.overlap, 0.9)
        number("tile_iou", self.iou_threshold, 1)
        if self.merge not in get_args(Merge):
            raise UserError(f"tile_merge must be one of {', '.join(get_args(Merge))}. Received: {self.merge!r}")

    def places(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """The tiles of an image: `(x1, y1, x2, y2)`, edges in pixels, row by row; all but those of a small image full.

        The last of a row ends at the border, so that it overlaps its neighbour by more.
        """
        rows, columns = self._starts(height), self._starts(width)
        return [(x, y, min(x + self.side, width), min(y + self.side, height)) for y in rows for x in columns]

    def _starts(self, length: int) -> list[int]:
        if length <= self.side:
            return [0]
        step = max(1, self.side - round(self.side * self.overlap))
        return [*range(0, length - self.side, step), length - self.side]


class TiledPredictor:
    """Detects on an image by tiles.

    One tile after the other, so that the network's memory is that of a tile; what stays of each is what it found.

    Args:
        predictor: from uint8 [H, W, 3] and a path to a `Found`, with `labels`.
        tiles: how.
        chosen: what of the objects found counts, such as those above a score; fewer are faster to put together.
    """

    def __init__(self, predictor: Any, tiles: Tiles, chosen: Callable[[Found], Found] = lambda found: found):
        self._predictor, self._tiles, self._chosen = predictor, tiles, chosen

    @property
    def labels(self) -> Labels:
        """What the model's numbers mean."""
        return self._predictor.labels

    def __call__(self, image: np.ndarray, path: str | None = None) -> Found:
        """Detects on one image, uint8 [H, W, 3], RGB, of the file `path`."""
        height, width = image.shape[:2]
        places = self._tiles.places(height, width)
        if len(places) == 1:
            return self._chosen(self._predictor(image, path))
        looks = []
        for place in places:
            x1, y1, x2, y2 = place
            found = self._chosen(self._predictor(np.ascontiguousarray(image[y1:y2, x1:x2]), path))
            looks.append(Pieces.of(found, place, (width, height)))
        if self._tiles.full_image:
            looks.append(Pieces.of(self._chosen(self._predictor(image, path)), (0, 0, width, height), (width, height)))
        pieces = without_parts(joined(Pieces.concatenated(looks)))
        boxes, scores, classes, masks = self._merged(pieces)
        return Found(
            image,
            boxes.astype(np.float32),
            scores.astype(np.float32),
            classes.astype(np.int32),
            self.labels,
            masks,
            path=path,
        )

    def _merged(self, pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        if self._tiles.merge == "nms":
            kept = pieces[suppress(pieces.boxes, pieces.scores, pieces.classes, self._tiles.iou_threshold)]
            return kept.boxes, kept.scores, kept.classes, kept.masks
        fused = weighted_box_fusion(pieces.boxes, pieces.scores, pieces.classes, self._tiles.iou_threshold)
        masks = pieces.masks
        if masks is not None:
            mean = np.zeros([len(fused.boxes), *masks.shape[1:]], np.float32)
            for one, box, members in zip(mean, fused.boxes, fused.members, strict=True):
                weights = pieces.scores[members] / max(pieces.scores[members].sum(), 1e-12)
                for weight, member in zip(weights, members, strict=True):
                    one += np.float32(weight) * moved_mask(masks[member], pieces.boxes[member], box)
            masks = mean
        return fused.boxes, fused.scores, fused.classes, masks


@dataclasses.dataclass(frozen=True)
class Pieces:
    """What the tiles of an image found, N objects or parts of them, in pixels of the image.

    Attributes:
        boxes: float64 [N, 4], edges `[x1, y1, x2, y2]`.
        scores: float64 [N].
        classes: int64 [N].
        masks: float32 [N, M, M], of each box's inside; None: the model has none.
        places: int64 [N, 4], the tile of each, edges; of a joined one what its tiles cover.
        cut: bool [N, 4], at its left, top, right, bottom: it ends there with its tile, and the image goes on.
        margins: float64 [N], pixels: what is near to a border.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None
    places: np.ndarray
    cut: np.ndarray
    margins: np.ndarray

    @classmethod
    def of(cls, found: Found, place: tuple[int, int, int, int], size: tuple[int, int]) -> Pieces:
        """What was found on one tile.

        Args:
            found: in pixels of the tile.
            place: of the tile in the image, edges.
            size: width and height of the image.
        """
        x1, y1, x2, y2 = place
        boxes = found.boxes.astype(np.float64) + [x1, y1, x1, y1]
        margin = max(2.0, _MARGIN * max(x2 - x1, y2 - y1))
        inner = np.array([x1 > 0, y1 > 0, x2 < size[0], y2 < size[1]])
        near = np.abs(boxes - np.array(place)) <= margin
        count = len(boxes)
        return cls(
            boxes,
            found.scores.astype(np.float64),
            found.class_ids.astype(np.int64),
            found.mask_probabilities,
            np.tile(np.array(place), (count, 1)),
            near & inner,
            np.full(count, margin),
        )

    def __getitem__(self, which: np.ndarray) -> Pieces:
        """Those of some numbers, int [K], or bool [N]."""
        parts: list[Any] = [None if part is None else part[which] for part in self._columns()]
        return Pieces(*parts)

    @staticmethod
    def concatenated(several: Sequence[Pieces]) -> Pieces:
        """All of several, which have masks or have none."""
        columns = zip(*(one._columns() for one in several), strict=True)
        whole: list[Any] = [None if parts[0] is None else np.concatenate(parts) for parts in columns]
        return Pieces(*whole)

    def _columns(self) -> list[Any]:
        return [getattr(self, column.name) for column in dataclasses.fields(self)]


def joined(pieces: Pieces) -> Pieces:
    """Pieces of one object that a border between two tiles cut, as one: the box of all, the best of their scores.

    Two are of one object where they have one class, each ends at its tile's border towards the other, their tiles lie
    beside each other, and they span the same rows (or columns) of the image. So an object of many tiles is one chain.
    """
    count = len(pieces.scores)
    parents = np.arange(count)

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for low, high, axis in ((_RIGHT, _LEFT, 0), (_BOTTOM, _TOP, 1)):
        ends, begins = np.flatnonzero(pieces.cut[:, low]), np.flatnonzero(pieces.cut[:, high])
        across = 1 - axis
        for one in ends:
            place, box = pieces.places[one], pieces.boxes[one]
            places, boxes = pieces.places[begins], pieces.boxes[begins]
            shared = np.minimum(box[across + 2], boxes[:, across + 2]) - np.maximum(box[across], boxes[:, across])
            whole = np.maximum(box[across + 2], boxes[:, across + 2]) - np.minimum(box[across], boxes[:, across])
            beside = (places[:, across] == place[across]) & (places[:, axis] > place[axis])
            meet = beside & (places[:, axis] <= place[axis + 2]) & (places[:, axis + 2] > place[axis + 2])
            same = (pieces.classes[begins] == pieces.classes[one]) & (shared >= _SAME_SPAN * np.maximum(whole, 1e-9))
            for other in begins[meet & same]:
                parents[root(int(other))] = root(int(one))
    roots = np.array([root(index) for index in range(count)], np.int64)
    if count == len(np.unique(roots)):
        return pieces
    groups = [np.flatnonzero(roots == number) for number in np.unique(roots)]
    return Pieces.concatenated([pieces[group] if len(group) == 1 else _union(pieces[group]) for group in groups])


def _union(group: Pieces) -> Pieces:
    box = np.concatenate([group.boxes[:, :2].min(0), group.boxes[:, 2:].max(0)])
    place = np.concatenate([group.places[:, :2].min(0), group.places[:, 2:].max(0)])
    masks = group.masks
    if masks is not None:
        moved = [moved_mask(mask, own, box) for mask, own in zip(masks, group.boxes, strict=True)]
        masks = np.max(moved, axis=0)[None]
    # Cut still where the outermost piece is.
    outermost = np.abs(group.boxes - box) <= group.margins[:, None]
    cut = (group.cut & outermost).any(axis=0)
    return Pieces(
        box[None], group.scores.max(keepdims=True), group.classes[:1], masks, place[None], cut[None], group.margins[:1]
    )


def without_parts(pieces: Pieces) -> Pieces:
    """Leaves out pieces that lie within the same object as another tile, or the whole image, shows it.

    A piece is one that its tile's border cuts, and goes where a box of its class holds most of it and goes on beyond
    that border: its overlap with the whole object may be far too small for a suppression.
    """
    left_out = np.zeros(len(pieces.scores), bool)
    sizes = areas(pieces.boxes)
    outward = np.array([-1, -1, 1, 1])
    for one in np.flatnonzero(pieces.cut.any(axis=1)):
        within = intersections(pieces.boxes[one], pieces.boxes) >= _WITHIN * max(sizes[one], 1e-9)
        beyond = (pieces.boxes - pieces.boxes[one]) * outward > pieces.margins[one]
        goes_on = (beyond | ~pieces.cut[one]).all(axis=1)
        elsewhere = (pieces.places != pieces.places[one]).any(axis=1)
        holds = within & goes_on & elsewhere & (pieces.classes == pieces.classes[one]) & ~left_out
        left_out[one] = holds.any()
    return pieces[~left_out]
