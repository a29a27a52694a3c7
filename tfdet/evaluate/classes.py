"""Classes are the same where their names are, in whatever order a model, data and annotations list them."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdet.data.coco_names import is_unused
from tfdet.errors import UserError
from tfdet.structures import Detections

_SHOWN = 20  # names of a list in a message


def match_classes(own: Sequence[str], other: Sequence[str], whose: str, whose_other: str) -> list[int]:
    """The places of classes in another list of the same ones.

    Args:
        own: class names.
        other: the same, in any order.
        whose, whose_other: what the lists are of, in words.

    Returns:
        For each of `own` its index in `other`.

    Raises:
        UserError: a name is in one list alone, or stands twice in either and the lists are not equal.

    Example:
        >>> match_classes(["cat", "dog"], ["dog", "cat"], "the model", "the data")
        [1, 0]
    """
    own, other = list(own), list(other)
    if own == other:
        return list(range(len(own)))
    place = {name: index for index, name in enumerate(other)}
    if sorted(own) != sorted(other) or len(place) != len(other):
        raise UserError(
            f"{whose} and {whose_other} have different classes: {len(own)} ({_listed(own, other)}) and {len(other)} "
            f"({_listed(other, own)}); use data of the same classes, in any order"
        )
    return [place[name] for name in own]


def match_model(
    num_classes: int, classes: Sequence[str] | None, manifest: Any, owner: str = "the detector"
) -> list[int]:
    """The class of a data set for each class of a model that is measured on it; -1 for those that COCO does not use.

    Args:
        num_classes: C, of the model.
        classes: its C names; None, or none, where they are not known: then they are taken to be the data set's.
        manifest: of the data set, with `name` and `classes`.
        owner: what the model is, in words.

    Raises:
        UserError: they are other classes, or as many others.
    """
    data = f"the data set {manifest.name!r}"
    if classes:
        used = [name for name in classes if not is_unused(name) or name in manifest.classes]
        places = iter(match_classes(used, manifest.classes, owner, data))
        return [next(places) if name in used else -1 for name in classes]
    if int(num_classes) != len(manifest.classes):
        raise UserError(
            f"{owner} has {int(num_classes)} classes and {data} has {len(manifest.classes)} "
            f"({_listed(manifest.classes, ())}): evaluate on a data set with the classes that it was trained on"
        )
    return list(range(len(manifest.classes)))


def in_data_classes(found: Detections, mapping: Sequence[int]) -> Detections:
    """Detections with the classes of the data.

    Args:
        found: of a batch, with the model's classes, -1 where padded.
        mapping: of `match_model`.

    Raises:
        UserError: a class is not one of the mapping (an exported model whose names are not known).
    """
    classes = np.asarray(found.classes)
    if classes.size and classes.max() >= len(mapping):
        raise UserError(
            f"the model finds class {int(classes.max()) + 1}, and the data set has {len(mapping)}: evaluate on a data "
            "set with the classes that it was trained on"
        )
    places = np.array([*mapping, -1], np.int32)  # the last one is that of -1
    found = found._replace(classes=places[np.maximum(classes, -1)])
    return _first(found) if -1 in mapping else found


def _first(found: Detections) -> Detections:
    """The detections whose class the data has, before those of others, which become padding."""
    other = found.classes < 0
    order = np.argsort(other, axis=1, kind="stable")

    def ordered(values: Any) -> np.ndarray:
        values = np.asarray(values)
        return np.take_along_axis(values, order.reshape(*order.shape, *[1] * (values.ndim - 2)), axis=1)

    return Detections(
        ordered(found.boxes),
        ordered(np.where(other, 0.0, found.scores).astype(np.float32)),
        ordered(found.classes),
        np.asarray((~other).sum(axis=1), np.int32),
        None if found.masks is None else ordered(found.masks),
    )


def with_data_ids(ground_truth: dict, manifest: Any) -> dict:
    """Ground truth whose categories have the ids that the data set gives to their names.

    Args:
        ground_truth: of `checked_ground_truth`. It is not changed. One whose categories have no names is taken by its
            ids.
        manifest: of the data set, with `name`, `classes` and `category_ids`.

    Raises:
        UserError: the names are others than the data set's, or some categories have none.
    """
    categories = ground_truth["categories"]
    unnamed = [entry["id"] for entry in categories if "name" not in entry]
    if len(unnamed) == len(categories):
        return ground_truth
    if unnamed:
        raise UserError(
            f"the annotations give no name to {len(unnamed)} of {len(categories)} categories (id {unnamed[0]}): name "
            "each as the data set does"
        )
    names = [entry["name"] for entry in categories]
    mapping = match_classes(names, manifest.classes, "the annotations", f"the data set {manifest.name!r}")
    own = {entry["id"]: int(manifest.category_ids[place]) for entry, place in zip(categories, mapping, strict=True)}
    if all(number == new for number, new in own.items()):
        return ground_truth
    annotations = [{**entry, "category_id": own[entry["category_id"]]} for entry in ground_truth["annotations"]]
    renamed = [{**entry, "id": own[entry["id"]]} for entry in categories]
    return {**ground_truth, "annotations": annotations, "categories": renamed}


def _listed(names: Sequence[str], others: Sequence[str]) -> str:
    """Names for a message: those that the other list lacks first where there are many."""
    if not names:
        return "none"
    ordered = list(names)
    if len(ordered) > _SHOWN:
        missing = collections.Counter(names) - collections.Counter(others)
        ordered = [*missing, *(name for name in names if name not in missing)]
    more = f", and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(map(str, ordered[:_SHOWN])) + more
