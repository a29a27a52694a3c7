"""What the classes of a weight file are called: in the header of tfdet's own files, and who else says it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tfdet.data.coco_names import COCO_CATEGORIES
from tfdet.data.manifest import MANIFEST_FILE, Manifest
from tfdet.data.values import whole_id
from tfdet.weights import published
from tfdet.weights.formats.safetensors import read_metadata
from tfdet.weights.maps.rules import Arrays
from tfdet.weights.sources import classes_of

_FIELD = "classes"


def as_metadata(classes: dict[int, str] | None) -> dict[str, str]:
    """Names by category id, in the order of the classes, as a text of a file's header; nothing for None."""
    if classes is None:
        return {}
    listed = [{"category_id": int(number), "name": name} for number, name in classes.items()]
    return {_FIELD: json.dumps(listed, ensure_ascii=False)}


def in_file(path: str | os.PathLike, count: int | None) -> dict[int, str] | None:
    """Names by category id that a file of tfdet itself says, in the order of its classes.

    Args:
        path: of any weight file.
        count: classes of the detector in it; a header that names others is not believed.

    Returns:
        None where it says none, or nothing that can be read.
    """
    if not os.path.isfile(path):
        return None
    try:
        listed = json.loads(read_metadata(path).get(_FIELD, "null"))
        named = {whole_id(entry["category_id"]): entry["name"] for entry in listed or []}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    fits = bool(named) and len(named) == len(listed) == count and all(isinstance(name, str) for name in named.values())
    return named if fits else None


def known_classes(weights: str | os.PathLike, path: Path, arrays: Arrays) -> dict[int, str] | None:
    """Names by category id of the detector in a file, as far as anything says them: numbers are no names.

    Args:
        weights: as a person named it: the name of published weights, or a path.
        path: of the file; of a run's checkpoint the run's manifest is read.
        arrays: its tensors.
    """
    found = classes_of(arrays)
    if found is None:
        return None
    if (own := in_file(path, len(found))) is not None:
        return own
    offered = published.named(weights)
    if offered is not None and offered.classes and len(offered.classes) == len(found):
        return dict(enumerate(offered.classes, 1))
    for folder in list(path.absolute().parents)[:2]:
        if os.path.isfile(folder / MANIFEST_FILE):
            manifest = Manifest.load(folder, check_shards=False)
            if manifest.num_classes == len(found):
                return dict(zip((int(number) for number in manifest.category_ids), manifest.classes))
    return found if found == COCO_CATEGORIES else None
