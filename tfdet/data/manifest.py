"""The manifest of a data set folder: what it holds, and where each record lies.

    manifest.json   class names, original category ids, counts, shards with sizes and SHA-256
    index.npz       one row a record: shard, offset, length, image id, size, counts (arrays of `RecordIndex`)
    *.tfrecord      the shards

The index makes the order of training a pure function of seed and step: any record is read directly, so an epoch is a
full permutation without a shuffle buffer, and a resumed run starts at its step at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib

import numpy as np

from tfdet.errors import UserError
from tfdet.files import check_local

MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.npz"
REPORT_FILE = "report.json"
_FORMAT = "tfdet data set"
_VERSION = 1
_MASK_COUNTS = ("num_masks", "num_crowd_masks")  # manifests of before there were masks do not have them
# Fields of RecordIndex, in order, with their types.
_COLUMNS = {
    "shard": "i4", "offset": "i8", "length": "i8", "image_id": "i8", "height": "i4", "width": "i4", "num_boxes": "i4",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: path relative to the folder, number of indexed records, size in bytes, SHA-256 in hex."""

    file: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RecordIndex:
    """Where each record lies and what decides its place in an epoch; all arrays have one row a record (N).

    Attributes:
        shard: int32 [N], index into the manifest's shards.
        offset: int64 [N], byte where the record begins in its shard.
        length: int64 [N], bytes of the serialized example (the record has 16 more).
        image_id: int64 [N].
        height, width: int32 [N], pixels.
        num_boxes: int32 [N], boxes that training uses (not crowd, valid by SimpleDet's rule).
    """

    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    image_id: np.ndarray
    height: np.ndarray
    width: np.ndarray
    num_boxes: np.ndarray

    @classmethod
    def from_rows(cls, rows) -> RecordIndex:
        """Builds the index from tuples in the order of the fields."""
        columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
        return cls(*(np.array(column, kind) for column, kind in zip(columns, _COLUMNS.values(), strict=True)))

    @property
    def is_trainable(self) -> np.ndarray:
        """bool [N]: the image has a box to train on."""
        return self.num_boxes > 0

    @property
    def is_portrait(self) -> np.ndarray:
        """bool [N]: height >= width, as SimpleDet groups (square counts as portrait)."""
        return self.height >= self.width

    def save(self, path: pathlib.Path) -> None:
        """Writes the arrays to an npz file."""
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in _COLUMNS})
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: pathlib.Path) -> RecordIndex:
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing or not an index.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                columns = [np.asarray(arrays[name], kind) for name, kind in _COLUMNS.items()]
        except Exception as error:
            raise UserError(f"cannot read the record index {path} ({error}); convert the data set again") from None
        if len({len(column) for column in columns}) != 1:
            raise UserError(f"the record index {path} is damaged (columns of unequal length); convert again")
        return cls(*columns)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a data set folder holds.

    Attributes:
        folder: the data set folder.
        name: name of the data set.
        classes: class names; class k of the program is classes[k].
        category_ids: original category ids, in the same order.
        boxes_per_class: boxes that training uses, in the same order.
        num_images: images, those without objects included.
        num_boxes: boxes that training uses.
        num_crowd: crowd regions.
        num_images_without_boxes: images that training leaves out.
        num_trainable_landscape, num_trainable_portrait: images with a box to train on, by orientation
            (height >= width is portrait).
        shards: the record files.
        source: where the data came from, in words.
        num_masks: boxes that training uses and that have a mask, of `num_boxes`.
        num_crowd_masks: crowd regions that have a mask, of `num_crowd`.
    """

    folder: pathlib.Path
    name: str
    classes: list[str]
    category_ids: list[int]
    boxes_per_class: list[int]
    num_images: int
    num_boxes: int
    num_crowd: int
    num_images_without_boxes: int
    num_trainable_landscape: int
    num_trainable_portrait: int
    shards: list[Shard]
    source: str = ""
    num_masks: int = 0
    num_crowd_masks: int = 0

    @property
    def num_classes(self) -> int:
        """Number of classes, background not counted."""
        return len(self.classes)

    @property
    def has_masks(self) -> bool:
        """Whether there are masks to train on and to evaluate with."""
        return self.num_masks > 0

    @classmethod
    def load(cls, folder: str | os.PathLike, check_shards: bool = True) -> Manifest:
        """Reads the manifest of a data set folder.

        Args:
            folder: the data set folder.
            check_shards: also check that every shard is there and has the size noted.

        Raises:
            UserError: the folder or manifest is missing or damaged, or a shard is missing or was changed.
        """
        check_local(folder, "data set folder")
        folder = pathlib.Path(folder).expanduser()
        path = folder / MANIFEST_FILE
        if not folder.is_dir():
            raise UserError(f"data set folder {folder} does not exist; make one with tfdet convert_data")
        if not path.is_file():
            hint = "make the data set with tfdet convert_data"
            if any(folder.glob("*.tfrecord*")) or any(folder.glob("*-of-*")):
                hint = f"for records made elsewhere: tfdet convert_data --from_records '{folder}/*' --output {folder}"
            raise UserError(f"{folder} is not a data set: it has no {MANIFEST_FILE}; {hint}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("format") != _FORMAT:
                raise UserError(f"{path} is not the manifest of a data set (its 'format' is {content.get('format')!r})")
            if content.get("version") != _VERSION:
                raise UserError(f"{path} has version {content.get('version')!r}, this program reads {_VERSION}")
            shards = [Shard(**shard) for shard in content["shards"]]
            content = {**dict.fromkeys(_MASK_COUNTS, 0), **content}
            names = [field.name for field in dataclasses.fields(cls) if field.name not in ("folder", "shards")]
            manifest = cls(folder=folder, shards=shards, **{name: content[name] for name in names})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); convert the data again") from None
        if not manifest.num_images or not shards:
            raise UserError(f"data set {folder} holds no records")
        if check_shards:
            manifest.check_shards()
        return manifest

    def check_shards(self) -> None:
        """Raises UserError when a shard is missing or its size differs from the manifest."""
        for shard in self.shards:
            path = self.folder / shard.file
            if not path.is_file():
                raise UserError(f"shard {path} is missing; restore it or convert the data set again")
            size = path.stat().st_size
            if size != shard.bytes:
                raise UserError(
                    f"shard {path} has {size} bytes but the manifest says {shard.bytes}: "
                    "it was changed or cut off; restore it or convert the data set again"
                )

    def shard_paths(self) -> list[str]:
        """Paths of the shards, in the order that the index refers to."""
        return [str(self.folder / shard.file) for shard in self.shards]

    def load_index(self) -> RecordIndex:
        """Reads the record index.

        Raises:
            UserError: it is missing, damaged or does not belong to this manifest.
        """
        index = RecordIndex.load(self.folder / INDEX_FILE)
        fits = len(index.shard) == self.num_images and index.shard.min() >= 0 and index.shard.max() < len(self.shards)
        if not fits:
            raise UserError(f"{self.folder / INDEX_FILE} does not belong to {MANIFEST_FILE} beside it; convert again")
        return index

    def write(self, folder: pathlib.Path | None = None) -> None:
        """Writes manifest.json into the folder (`folder` overrides where, while the data set is being built)."""
        content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(self)}
        del content["folder"]
        path = (folder or self.folder) / MANIFEST_FILE
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
