"""Several data sets as one: a manifest and an index over all of them, in which classes go by their names."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdet.data.index import RecordIndex
from tfdet.data.manifest import Manifest
from tfdet.data.remote import RemoteShard
from tfdet.data.selection import select_classes
from tfdet.errors import UserError

DataDirs = str | Path | tuple[str | Path, ...]


@dataclasses.dataclass(frozen=True)
class MixedManifest(Manifest):
    """The manifest of several data sets; its folder is that of the first."""

    parts: tuple[Manifest, ...] = ()

    def load_index(self) -> RecordIndex:
        """The indexes one after the other; where sets number images alike, all are numbered anew, from 0."""
        return self._index

    @functools.cached_property
    def _index(self) -> RecordIndex:
        indexes = [part.load_index() for part in self.parts]
        columns = {
            field.name: np.concatenate([getattr(index, field.name) for index in indexes])
            for field in dataclasses.fields(RecordIndex)
        }
        first_shards = np.cumsum([0, *(len(part.shards) for part in self.parts[:-1])])
        columns["shard"] += np.repeat(first_shards, [len(index) for index in indexes]).astype(np.int32)
        if len(np.unique(columns["image_id"])) < len(columns["image_id"]):
            columns["image_id"] = np.arange(len(columns["image_id"]))
        return RecordIndex(**columns)

    def remote_shards(self) -> list[RemoteShard | None] | None:
        """Of the shards of all sets; None where all are here."""
        found = [part.remote_shards() for part in self.parts]
        if not any(found):
            return None
        return [shard for part, own in zip(self.parts, found) for shard in own or [None] * len(part.shards)]

    def shard_paths(self) -> list[str]:
        """Paths of the shards of all sets."""
        return [path for part in self.parts for path in part.shard_paths()]


def open_data(data_dir: DataDirs, classes: Sequence[str] | None, parameter: str) -> Manifest:
    """The manifest of one data set, or of several as one.

    Args:
        data_dir: a folder, or several.
        classes: as in `select_classes`, of each set; None: all, in the order of the first set.
        parameter: that names the folders, such as "TrainInput.data_dir", for messages.

    Raises:
        UserError: a set cannot be read, is named twice, or its classes are others than those of the first.
    """
    chooser = f"{parameter.rpartition('.')[0]}.classes"
    folders = [data_dir] if isinstance(data_dir, (str, os.PathLike)) else list(data_dir)
    if not folders:
        raise UserError(f"{parameter} must name one data set at least. Received: ()")
    parts = [Manifest.load(folder) for folder in folders]
    if len(parts) == 1:
        return select_classes(parts[0], classes, chooser)
    if len({str(part.folder.absolute()) for part in parts}) < len(parts):
        raise UserError(f"{parameter} names a data set twice: give it more weight by TrainInput.data_weights instead")
    wanted = parts[0].classes if classes is None else classes
    for part in parts if classes is None else ():
        if differing := set(part.classes) ^ set(wanted):
            name = min(differing)
            has, lacks = (part, parts[0]) if name in part.classes else (parts[0], part)
            raise UserError(
                f"data sets that are mixed must have the same classes: {has.folder} has {name!r}, {lacks.folder} has "
                f"not. Name those to train on with --classes or {chooser}; in a set without a class its objects would "
                "be background"
            )
    return _mixed([select_classes(part, wanted, chooser) for part in parts])


def _mixed(parts: Sequence[Manifest]) -> MixedManifest:
    first = parts[0]

    def total(name: str) -> int:
        return sum(getattr(part, name) for part in parts)

    counts = [field.name for field in dataclasses.fields(Manifest) if field.name.startswith("num_")]
    has_masks = all(part.has_masks for part in parts)
    totals = {name: total(name) if has_masks or "masks" not in name else 0 for name in counts}
    frequencies = first.frequencies if all(part.frequencies == first.frequencies for part in parts) else []
    return MixedManifest(
        folder=first.folder,
        name=" + ".join(part.name for part in parts),
        classes=list(first.classes),
        category_ids=list(first.category_ids),
        boxes_per_class=[sum(counts) for counts in zip(*(part.boxes_per_class for part in parts), strict=True)],
        shards=[shard for part in parts for shard in part.shards],
        source="; ".join(part.source for part in parts),
        frequencies=frequencies,
        parts=tuple(parts),
        **totals,
    )
