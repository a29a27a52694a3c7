"""What a model found on one image."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfdet.arguments import number
from tfdet.config.files import did_you_mean
from tfdet.errors import UserError
from tfdet.ops.paste_masks import PASTE_RULES, paste_masks
from tfdet.predict.coco_records import coco_records
from tfdet.report.drawing import draw_detections

if TYPE_CHECKING:
    import PIL.Image
    import supervision


class Labels(NamedTuple):
    """What a model's numbers mean."""

    classes: list[str]  # names by class, 0..C-1; fewer, or none, where an export does not say
    category_ids: list[int]  # original category id by class
    mask_paste: str = "simpledet"  # see `ops.paste_masks`

    def name(self, kind: int) -> str:
        """Of class `kind`; one without a name is called by its number from 1."""
        return self.classes[kind] if kind < len(self.classes) else f"class {kind + 1}"

    def category_id(self, kind: int) -> int:
        """Of class `kind`; one without is numbered from 1."""
        return int(self.category_ids[kind]) if kind < len(self.category_ids) else kind + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a model found on one image, best first.

    `len(found)` counts the N objects; `found[3]`, `found[:10]` and `found[found.scores > 0.9]` are the same with some
    of them, `above` and `of_class` choose by score and by name.

    Args:
        image: uint8 [H, W, 3], RGB, turned upright.
        boxes: float32 [N, 4], edges `[x1, y1, x2, y2]` in pixels of `image`: the width is x2 - x1.
        scores: float32 [N], 0..1.
        class_ids: int32 [N], 0..C-1.
        labels: the model's names of them.
        mask_probabilities: float32 [N, M, M], of each box's inside, to be stretched over it; None: the model has no
            masks.
        corners: float32 [N, 4], inclusive corners `[x1, y1, x2, y2]` as the detector gives them, from which
            evaluation measures; None: of `boxes`.
        path: the file of the image; None where it came otherwise.
        frame: its number, from 0, in the video `path`; None: it is of none.
        time: seconds from the video's beginning; None: it is of none.

    Example:
        >>> found = model.predict("pictures/street.jpg")[0]
        >>> found.boxes.shape == (len(found), 4)
        True
        >>> found.above(0.5).draw().save("street_found.jpg")
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    labels: Labels
    mask_probabilities: np.ndarray | None = None
    corners: np.ndarray | None = None
    path: str | None = None
    frame: int | None = None
    time: float | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        counts = collections.Counter(self.class_names)
        what = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        return f"Found({what} on {self.image.shape[1]}x{self.image.shape[0]} pixels)"

    def __getitem__(self, which: Any) -> Found:
        """Some of the objects: a number, a slice, a list of numbers or bool [N]."""
        chosen = np.atleast_1d(np.arange(len(self))[which])
        return dataclasses.replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            class_ids=self.class_ids[chosen],
            mask_probabilities=None if self.mask_probabilities is None else self.mask_probabilities[chosen],
            corners=None if self.corners is None else self.corners[chosen],
        )

    @property
    def class_names(self) -> list[str]:
        """N names, of each object's class."""
        return [self.labels.name(int(kind)) for kind in self.class_ids]

    @property
    def category_ids(self) -> list[int]:
        """N category ids of the training data, such as COCO's 1..90."""
        return [self.labels.category_id(int(kind)) for kind in self.class_ids]

    @functools.cached_property
    def masks(self) -> np.ndarray | None:
        """bool [N, H, W], which pixels of the image each object covers; None: the model has no masks.

        Pasted by the rule of the program that the model is of, when first asked for: N x H x W bytes.
        """
        if self.mask_probabilities is None:
            return None
        convention, beyond = PASTE_RULES[self.labels.mask_paste]
        boxes = self.inclusive_corners() + np.array([0, 0, beyond, beyond], np.float32)
        height, width = self.image.shape[:2]
        return paste_masks(self.mask_probabilities, boxes, height, width, convention)

    def above(self, threshold: float) -> Found:
        """The objects whose score is at least `threshold`, 0..1.

        Example:
            >>> bool((found.above(0.5).scores >= 0.5).all())
            True
        """
        return self[self.scores >= number("threshold", threshold)]

    def of_class(self, *names: str) -> Found:
        """The objects of these classes.

        Args:
            *names: of classes of the model.

        Raises:
            UserError: the model has no such class, or it is no name.

        Example:
            >>> set(found.of_class("circle", "square").class_names) <= {"circle", "square"}
            True
        """
        for name in names:
            if not isinstance(name, str):
                raise UserError(f"of_class takes names, such as of_class('car', 'bus'). Received: {name!r}")
            if self.labels.classes and name not in self.labels.classes:
                raise UserError(f"the model has no class {name!r}.{did_you_mean(name, self.labels.classes)}")
        return self[np.isin(np.array(self.class_names, object), names)]

    def draw(self) -> PIL.Image.Image:
        """The image with boxes, names, scores and masks drawn on it, as a new PIL image.

        Example:
            >>> found.draw().size == (found.image.shape[1], found.image.shape[0])
            True
        """
        from PIL import Image

        names = [self.labels.name(kind) for kind in range(int(self.class_ids.max(initial=-1)) + 1)]
        drawn = draw_detections(
            self.image, self.drawing_boxes(), self.class_ids, self.scores, names, masks=self.mask_probabilities
        )
        return Image.fromarray(drawn)

    def drawing_boxes(self) -> np.ndarray:
        """The boxes as inclusive corners, float32 [N, 4]: what a detector and its export agree on to the border."""
        return self.boxes - np.array([0, 0, 1, 1], np.float32)

    def to_coco(self, image_id: int = 0) -> list[dict]:
        """COCO's result records, to the last digit those that evaluation measures and writes.

        Args:
            image_id: of the image in the ground truth.

        Returns:
            N dicts of `image_id`, `category_id`, `bbox` (`[x, y, width, height]`, pixels) and `score`; of a model
            with masks also `segmentation`, compressed run lengths.

        Example:
            >>> [sorted(record) for record in found.to_coco(image_id=7)][:1]
            [['bbox', 'category_id', 'image_id', 'score']]
        """
        return coco_records(
            image_id,
            self.inclusive_corners(),
            self.scores,
            self.category_ids,
            self.mask_probabilities,
            (self.image.shape[0], self.image.shape[1]),
            self.labels.mask_paste,
        )

    def to_yolo(self, scores: bool = False) -> str:
        """YOLO's label file: a line an object, numbers as parts of the image; of a model with masks its outline.

        Args:
            scores: the score at the end of each line.

        Example:
            >>> [len(line.split()) for line in found.to_yolo().splitlines()][:1]
            [5]
        """
        from tfdet.predict.formats import yolo_text

        return yolo_text(self, scores)

    def to_voc(self) -> str:
        """Pascal VOC's annotation, XML with 1-based inclusive corners and `confidence`.

        Example:
            >>> found.to_voc().splitlines()[0]
            '<annotation>'
        """
        from tfdet.predict.formats import voc_xml

        return voc_xml(self)

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections`, names in `data["class_name"]`; needs `pip install 'tfdet[supervision]'`.

        Raises:
            UserError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(f"{error}: pip install 'tfdet[supervision]' installs what to_supervision needs") from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.class_ids.astype(int),
            data={"class_name": np.array(self.class_names, str)},
        )

    def inclusive_corners(self) -> np.ndarray:
        """The boxes as the detector gave them, float32 [N, 4], from which it is measured and masks are pasted."""
        return self.drawing_boxes() if self.corners is None else self.corners
