"""The manifest of a data set folder: what it holds, and where each record lies.

    manifest.json   class names, original category ids, counts, shards with sizes and SHA-256, the index's SHA-256, and
                    a digest of all this
    index.npz       one row a record: shard, offset, length, image id, size, counts (arrays of `index.RecordIndex`)
    *.tfrecord      the shards

The index makes the order of training a pure function of seed and step: any record is read directly, so an epoch is a
full permutation without a shuffle buffer, and a resumed run starts at its step at once.

Both are checked when they are read: by what cannot be true of them, and by the digests, which sets of older versions do
not have.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from typing import Any, ClassVar

from tfdet.data.index import INDEX_FILE, RecordIndex
from tfdet.data.published.table import how_to_make
from tfdet.data.remote import RemoteShard, address_of, local_copy, remote_shards
from tfdet.errors import UserError
from tfdet.files import at_home, check_local, is_address, read_regular, write_json
from tfdet.strict_json import parse_json

MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.json"
FROM_RECORDS = "records: "
"""How `source` begins where the records were made elsewhere."""
_FORMAT = "tfdet data set"
_VERSION = 1
_CLASS_COLUMNS = ("category_ids", "classes", "boxes_per_class")  # one entry a class, in one order
_FREQUENCIES = "frequencies"  # one more column, of sets that have it
_LARGEST = 2**63 - 1
_SHA256 = re.compile("[0-9a-f]{64}")
_ADVICE = "restore it or convert the data set again"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: path relative to the folder, number of indexed records, size in bytes, SHA-256 in hex."""

    file: str
    records: int
    bytes: int
    sha256: str


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
        index_sha256: SHA-256 of the index's file, in hex; empty in sets of versions that did not note it.
        frequencies: of LVIS, in the order of the classes: "r", "c" or "f", of few, some or many images, or an empty
            text; [] in other sets.
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
    source: str
    num_masks: int = 0
    num_crowd_masks: int = 0
    index_sha256: str = ""
    frequencies: list[str] = dataclasses.field(default_factory=list)

    left_out: ClassVar[tuple[int, ...]] = ()
    """Category ids of classes that a selection (`data.selection`) leaves out; none of a data set as it is."""
    parts: ClassVar[tuple[Manifest, ...]] = ()
    """The manifests of the data sets that this one is of, where it is of several (`data.mixing`)."""

    @property
    def folders(self) -> list[pathlib.Path]:
        """The folder, or those of the data sets that it is of."""
        return [part.folder for part in self.parts] or [self.folder]

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return " + ".join(address_of(folder) or str(folder) for folder in self.folders)

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
            folder: the data set folder, or the address of one: `gs://bucket/coco`, `https://host/coco`. Manifest and
                index of that are fetched into the cache folder, which is the manifest's folder then (`data.remote`).
            check_shards: also check that every shard is there and has the size noted; those of an address are fetched
                and checked when they are used.

        Raises:
            UserError: the folder or manifest is missing or damaged, or a shard is missing or was changed.
        """
        if is_address(folder):
            folder = local_copy(str(folder), MANIFEST_FILE)
        check_local(folder, "data set folder")
        folder = at_home(folder)
        path = folder / MANIFEST_FILE
        if not os.path.isdir(folder):
            raise UserError(f"data set folder {folder} does not exist; {how_to_make(folder)}")
        if not os.path.isfile(path):
            hint = "make the data set with tfdet convert_data"
            if any(folder.glob("*.tfrecord*")) or any(folder.glob("*-of-*")):
                hint = f"for records made elsewhere: tfdet convert_data --from_records '{folder}/*' --output {folder}"
            raise UserError(f"{folder} is not a data set: it has no {MANIFEST_FILE}; {hint}")
        content = _read(path)
        try:
            manifest = cls(folder=folder, **_fields(cls, content))
        except (KeyError, ValueError, TypeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path} is damaged ({reason}); {_ADVICE}") from None
        if not manifest.num_images or not manifest.shards:
            raise UserError(f"data set {folder} holds no records")
        if fault := manifest._fault():
            raise UserError(f"{path} is damaged ({fault}); {_ADVICE}")
        # A set with either digest has both: that one was taken out is a change like any other.
        if ("digest" in content or manifest.index_sha256) and content.get("digest") != digest(content):
            raise UserError(f"{path} was changed after it was written (its digest does not fit); {_ADVICE}")
        if manifest.remote_shards() is None and check_shards:
            manifest.check_shards()
        return manifest

    def check_shards(self) -> None:
        """Raises UserError when a shard is missing or its size differs from the manifest."""
        for shard in self.shards:
            path = self.folder / shard.file
            if not os.path.isfile(path):
                raise UserError(f"shard {path} is missing; restore it or convert the data set again")
            size = path.stat().st_size
            if size != shard.bytes:
                raise UserError(
                    f"shard {path} has {size} bytes but the manifest says {shard.bytes}: "
                    "it was changed or cut off; restore it or convert the data set again"
                )

    def remote_shards(self) -> list[RemoteShard | None] | None:
        """Of each shard where it is fetched from; None for those that are here, or for all of them at once."""
        address = address_of(self.folder)
        return None if address is None else [*remote_shards(address, self.folder, self.shards)]

    def shard_paths(self) -> list[str]:
        """Paths of the shards, in the order that the index refers to."""
        return [str(self.folder / shard.file) for shard in self.shards]

    def load_index(self) -> RecordIndex:
        """Reads the record index.

        Raises:
            UserError: it is missing, damaged, changed or does not belong to this manifest.
        """
        path = self.folder / INDEX_FILE
        index = RecordIndex.load(path, self.num_images, self.index_sha256)
        fault = index.fault([shard.bytes for shard in self.shards], [shard.records for shard in self.shards])
        landscape, portrait = (
            int((index.is_trainable & turned).sum()) for turned in (~index.is_portrait, index.is_portrait)
        )
        if (int(index.num_boxes.sum()), landscape, portrait) != (
            self.num_boxes, self.num_trainable_landscape, self.num_trainable_portrait,
        ):  # fmt: skip
            fault = fault or "its boxes and orientations are not those that the manifest counts"
        if fault:
            raise UserError(f"{path} does not belong to {MANIFEST_FILE} beside it ({fault}); {_ADVICE}")
        return index

    def _fault(self) -> str | None:
        """What cannot be true of these values."""
        for name in ("classes", "boxes_per_class"):
            if len(getattr(self, name)) != len(self.category_ids):
                return f"{name} has {len(getattr(self, name))} entries for {len(self.category_ids)} category_ids"
        if self.frequencies and len(self.frequencies) != len(self.classes):
            return f"{_FREQUENCIES} has {len(self.frequencies)} entries for {len(self.classes)} classes"
        if len(set(self.category_ids)) != len(self.category_ids):
            return "category_ids has an id twice"
        orientations = self.num_trainable_landscape + self.num_trainable_portrait
        for what, total, stated in (
            ("boxes_per_class", sum(self.boxes_per_class), self.num_boxes),
            ("images by orientation and without boxes", orientations + self.num_images_without_boxes, self.num_images),
            ("records of the shards", sum(shard.records for shard in self.shards), self.num_images),
        ):
            if total != stated:
                return f"the {what} add up to {total}, not {stated}"
        if self.num_masks > self.num_boxes or self.num_crowd_masks > self.num_crowd:
            return "it has more masks than objects"
        return None

    def write(self, folder: pathlib.Path | None = None) -> None:
        """Writes manifest.json into the folder, or into another one."""
        write_json(self.content(), (folder or self.folder) / MANIFEST_FILE, for_people=True)

    def content(self) -> dict[str, Any]:
        """What its file holds."""
        values = dataclasses.asdict(self)
        names = [field.name for field in dataclasses.fields(Manifest) if field.name != "folder"]
        content = {"format": _FORMAT, "version": _VERSION, **{name: values[name] for name in names}}
        if not self.frequencies:
            del content[_FREQUENCIES]
        content["digest"] = digest(content)
        return content


def is_data_set(folder: str | os.PathLike) -> bool:
    """Whether a folder is a data set, by the name of its manifest; addresses are taken for ones."""
    return is_address(folder) or os.path.isfile(at_home(folder) / MANIFEST_FILE)


def digest(content: dict[str, Any]) -> str:
    """The digest of a manifest's values, in hex: SHA-256, whatever the layout of the text.

    The classes may stand in any order, as long as each keeps its id and its boxes: classes are compared by name.

    Args:
        content: the manifest as in its file; "digest" itself takes no part.
    """
    columns = [*_CLASS_COLUMNS, *([_FREQUENCIES] if content.get(_FREQUENCIES) else [])]
    rows = sorted(zip(*(content[name] for name in columns), strict=True))
    rest = {name: value for name, value in content.items() if name not in (*columns, "digest")}
    text = json.dumps([rest, rows], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The content of a manifest of this version."""
    try:
        content = parse_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); {_ADVICE}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it is no JSON object); {_ADVICE}")
    if content.get("format") != _FORMAT:
        raise UserError(f"{path} is not the manifest of a data set (its 'format' is {content.get('format')!r})")
    if content.get("version") != _VERSION:
        raise UserError(f"{path} has version {content.get('version')!r}, this program reads {_VERSION}")
    return content


def _fields(kind: type, content: dict[str, Any]) -> dict[str, Any]:
    """The values of a `Manifest` or `Shard` by the names of its fields, each of its type; what older versions did not
    write has a default. KeyError: one is missing; ValueError names one of another type."""
    defaults = {
        field.name: [] if field.default_factory is list else field.default for field in dataclasses.fields(kind)
    }
    values = {**{name: value for name, value in defaults.items() if value is not dataclasses.MISSING}, **content}
    fields = [field for field in dataclasses.fields(kind) if field.name != "folder"]
    return {field.name: _checked(field.name, field.type, values[field.name]) for field in fields}


def _checked(name: str, kind: Any, value: Any) -> Any:
    """A value of the type that a field is annotated with. All whole numbers but category ids are counts."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise ValueError(f"{name} is {value!r:.60}, not a list")
        return [_checked(name, kind.removeprefix("list[").removesuffix("]"), item) for item in value]
    if kind == "Shard":
        if not isinstance(value, dict):
            raise ValueError(f"{name} holds {value!r:.60}, not an object")
        return Shard(**_fields(Shard, value))
    if kind == "str":
        is_digest = name == "sha256" or (name == "index_sha256" and value != "")
        if not isinstance(value, str) or "\0" in value or (is_digest and not _SHA256.fullmatch(value)):
            raise ValueError(f"{name} is {value!r:.60}, not {'a SHA-256 in hex' if is_digest else 'a text'}")
        return value
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
        raise ValueError(f"{name} holds {value!r:.60}, not an integer of 64 bits")
    if value < 0 and name != "category_ids":
        raise ValueError(f"{name} is {value}, less than 0")
    return value


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
