"""Detections of one image as COCO result records: original image coordinates and original category ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfdet.ops.paste_masks import encode_masks


def to_coco_boxes(boxes: np.ndarray) -> np.ndarray:
    """Turns inclusive corners into COCO boxes.

    Args:
      boxes: float [N, 4], `[x1, y1, x2, y2]`, x2 and y2 inclusive, pixels of the original image.

    Returns:
      float64 [N, 4], `[x, y, width, height]` with width = x2 - x1 + 1 (SimpleDet `detection_test.py`).
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1.0], axis=1)


def coco_records(
    image_id: int,
    corners: np.ndarray,
    scores: np.ndarray,
    category_ids: Sequence[int],
    masks: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    mask_paste: str = "simpledet",
) -> list[dict]:
    """Detections of one image as COCO result records.

    Args:
      image_id: the id of the image in the ground truth.
      corners: float [N, 4], `[x1, y1, x2, y2]` inclusive corners, pixels of the original image.
      scores: float [N].
      category_ids: original category id of each.
      masks: float [N, M, M], probabilities inside the boxes; None leaves masks out.
      size: height and width of the original image, to which masks are pasted; None leaves them out.
      mask_paste: the rule of pasting, see `ops.paste_masks`.

    Returns:
      A list of `{"image_id", "category_id", "bbox", "score"}` in the order given; of detections with masks also
      `"segmentation"`, COCO's compressed run lengths.
    """
    # 1/1000 of a pixel is far finer than any threshold sees and halves the file. What was float32 has an exact
    # thousandfold: so this is what Python's `round` gives, one by one.
    boxes = np.round(to_coco_boxes(corners), 3).tolist()
    image_id = int(image_id)
    records = [
        {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
        for box, score, category_id in zip(
            boxes, np.asarray(scores, np.float64).tolist(), np.asarray(category_ids, np.int64).tolist(), strict=True
        )
    ]
    if masks is not None and size is not None:
        for record, encoded in zip(records, encode_masks(masks, corners, *size, mask_paste), strict=True):
            record["segmentation"] = encoded
    return records
