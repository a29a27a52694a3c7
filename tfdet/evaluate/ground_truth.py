"""Ground truth as COCO's metrics take it: read by the rules of conversion, so that both count the same boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfdet.data.annotations import Category
from tfdet.data.formats.coco import merge_categories
from tfdet.data.formats.coco_entries import AnnotationReader, read_images
from tfdet.data.objects import judge_objects
from tfdet.data.problems import ProblemReport
from tfdet.data.values import shown
from tfdet.errors import UserError

_MAX_PIXELS = 2**31  # pycocotools counts the pixels of a mask in 32 bits


def checked_ground_truth(content: Any, category_ids: Sequence[int], report: ProblemReport) -> dict:
    """Reads a COCO annotation dictionary for measuring.

    pycocotools checks nothing: a box that is not a number matches everything, and a damaged run length does not end.
    Only what is sound gets through here.

    Args:
      content: `images`, `annotations` and `categories` of a COCO file or of a data set; names may be missing.
      category_ids: the ids to take where the content has no categories.
      report: receives what was left out or is measured otherwise than it is written. What both keep as it is, such as a
        box over the border, conversion alone names.

    Returns:
      `images` (id, file_name; height and width where they are known), `categories` (id; name where there is one),
      `annotations` with every field that COCOeval reads. Their ids count from 1: COCOeval takes 0 for "no match", and
      equal ids for one box.

    Raises:
      UserError: it is no such dictionary.
    """
    lists = []
    for key in ("images", "annotations", "categories"):
        entries = content.get(key, []) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"the ground truth has no list '{key}': {shown(entries)}")
        lists.append(entries)
    found, name = ProblemReport(), "ground truth"
    categories: dict[int, Category] = {}
    merge_categories(categories, lists[2], name, need_name=False)
    images = read_images(lists[0], name, found, need_name=False)
    AnnotationReader(images, categories or set(category_ids), name, found).read(lists[1])
    annotations: list[dict] = []
    for image in images.values():
        if image.height * image.width > _MAX_PIXELS:
            found.add("image size not read", image.file_name, image.image_id, "it has too many pixels", "left out")
            image.height = image.width = 0
        file = image.file_name or f"image id {image.image_id}"
        judged, problems = judge_objects(image.objects, image.height, image.width, file, image.image_id)
        found.extend(problems)
        for item, segmentation in judged:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": item.category_id,
                    "bbox": [item.x, item.y, item.width, item.height],
                    "area": item.area,
                    "iscrowd": int(item.is_crowd),
                    "segmentation": None if segmentation is None else segmentation.value,
                }
            )
    report.extend(p for p in found.problems if not p.is_note and p.action not in ("kept", "both kept"))
    sizes = {i: {"height": m.height, "width": m.width} if m.height and m.width else {} for i, m in images.items()}
    return {
        "images": [{"id": i, "file_name": image.file_name, **sizes[i]} for i, image in images.items()],
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} if c.name else {"id": c.id} for c in categories.values()],
    }
