"""The figures are those of pycocotools to 1e-12, over random boxes and masks, equal scores, crowds and gaps."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tfdet.evaluate import in_parts
from tfdet.evaluate.coco import CocoEvaluator, metric_names

SIDE = 160
IDS = [7, 2, 11, 30]
MANIFEST = SimpleNamespace(name="drawn", classes=["a", "b", "c", "d"], category_ids=IDS)


def drawn(seed: int, masks: bool) -> tuple[dict, list[dict]]:
    """Annotations and detections: near objects and anywhere, of few scores; class "d" has no object."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(90)[:12] + 1
    images = [{"id": int(number), "file_name": "", "height": SIDE, "width": SIDE} for number in ids]
    annotations, found = [], []
    for image in images[1:]:
        for _ in range(rng.integers(0, 6)):
            size = np.exp(rng.uniform(1, np.log(SIDE), 2))
            box = np.concatenate([rng.uniform(0, 1, 2) * (SIDE - size), size])
            crowd, ids = int(rng.uniform() < 0.15), int(rng.choice(IDS[:3]))
            given = {"image_id": image["id"], "category_id": ids, "bbox": box.tolist(), "iscrowd": crowd}
            given |= {"id": len(annotations) + 1, "area": float(size.prod() * rng.uniform(0.3, 1))}
            annotations.append(given | ({"segmentation": _mask(box)} if masks else {}))
            for _ in range(rng.integers(0, 4)):
                moved = box + rng.normal(0, 0.1, 4) * [*size, *size]
                found.append((image["id"], ids if rng.uniform() < 0.8 else int(rng.choice(IDS)), moved))
        found += [(image["id"], int(rng.choice(IDS)), rng.uniform(1, SIDE / 2, 4)) for _ in range(rng.integers(0, 5))]
    records = []
    for image_id, category_id, box in found:
        box[2:] = np.maximum(box[2:], 0.5)
        score = float(np.round(rng.uniform(), 1))
        record = {"image_id": image_id, "category_id": category_id, "bbox": box.tolist(), "score": score}
        records.append(record | ({"segmentation": _mask(box)} if masks else {}))
    categories = [{"id": number, "name": name} for number, name in zip(IDS, MANIFEST.classes, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}, records


def _mask(box: np.ndarray) -> dict:
    """The ellipse inside a box, as run lengths."""
    y, x = np.mgrid[:SIDE, :SIDE]
    (cx, cy), (rx, ry) = box[:2] + box[2:] / 2, np.maximum(box[2:], 2) / 2
    inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
    runs = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def by_pycocotools(truth: dict, records: list[dict], kind: str, most: int) -> tuple[list[float], list[float]]:
    """The twelve figures, and AP of each class, the plain way."""
    if kind == "segm":  # `loadRes` takes the areas of boxes where there are any
        records = [{name: value for name, value in record.items() if name != "bbox"} for record in records]
    with contextlib.redirect_stdout(io.StringIO()):
        plain = COCO()
        plain.dataset = json.loads(json.dumps(truth))
        plain.createIndex()
        evaluation = COCOeval(plain, plain.loadRes(json.loads(json.dumps(records))), kind)
        evaluation.params.maxDets = [1, 10, most]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # `summarize` gives AP of 100 detections, or -1, whatever the parameter is.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    stats = [precision[precision > -1].mean() if (precision > -1).any() else -1.0, *evaluation.stats[1:]]
    places = [sorted(IDS).index(number) for number in IDS]
    classes = (evaluation.eval["precision"][:, :, place, 0, -1] for place in places)
    return stats, [float(ap[ap > -1].mean()) if (ap > -1).any() else -1 for ap in classes]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_figures_are_those_of_pycocotools(seed, masks, monkeypatch):
    if seed % 2:
        monkeypatch.setattr(in_parts, "_PAIRS", 4)  # one class at a time
    truth, records = drawn(seed, masks)
    most = [100, 12, 300][seed % 3]  # an image has up to 20 here
    evaluator = CocoEvaluator(truth, MANIFEST, max_detections=most)
    for image in truth["images"]:
        evaluator.add_records(image["id"], [record for record in records if record["image_id"] == image["id"]])
    result = evaluator.result()
    sides = [("bbox", result.metrics, result.per_class)]
    sides += [("segm", result.mask_metrics, result.mask_per_class)] if masks else []
    for kind, metrics, per_class in sides:
        figures, classes = by_pycocotools(truth, records, kind, most)
        np.testing.assert_allclose([metrics[name] for name in metric_names(most)], figures, rtol=0, atol=1e-12)
        np.testing.assert_allclose([one.ap for one in per_class], classes, rtol=0, atol=1e-12)
        assert per_class[-1].ap == -1 and 0 < metrics["AP"] < 1
