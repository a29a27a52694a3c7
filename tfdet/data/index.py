"""The record index of a data set: where each record lies, and what decides its place in an epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from tfdet.errors import UserError
from tfdet.files import replacing

INDEX_FILE = "index.npz"
FRAME_BYTES = 16
"""What a TFRecord has around its data: the length 8, its checksum 4, the checksum of the data 4."""
# Fields of RecordIndex, in order, with their types.
_COLUMNS = {
    "shard": "i4", "offset": "i8", "length": "i8", "image_id": "i8", "height": "i4", "width": "i4", "num_boxes": "i4",
}  # fmt: skip
_HEADER_BYTES = 4096  # of a column in the file: more than any has
_ADVICE = "restore it or convert the data set again"


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
    def from_columns(cls, columns: Sequence[Sequence[int] | np.ndarray]) -> RecordIndex:
        """Builds the index from its columns in the order of the fields."""
        return cls(*(np.array(column, kind) for column, kind in zip(columns, _COLUMNS.values(), strict=True)))

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def is_trainable(self) -> np.ndarray:
        """bool [N]: the image has a box to train on."""
        return self.num_boxes > 0

    @property
    def is_portrait(self) -> np.ndarray:
        """bool [N]: height >= width, as SimpleDet groups (square counts as portrait)."""
        return self.height >= self.width

    def image_sizes(self) -> dict[int, tuple[int, int]]:
        """Height and width in pixels of every image by id."""
        sizes = zip(self.height.tolist(), self.width.tolist(), strict=True)
        return dict(zip(self.image_id.tolist(), sizes, strict=True))

    def to_bytes(self) -> bytes:
        """The index as an npz file: the same bytes for the same rows."""
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in _COLUMNS})
        return buffer.getvalue()

    def sha256(self) -> str:
        """SHA-256 of the file that `save` writes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def save(self, path: pathlib.Path) -> None:
        """Writes the arrays to an npz file."""
        with replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: pathlib.Path, num_records: int, sha256: str = "") -> RecordIndex:
        """Reads what `save` wrote.

        Args:
            path: the file.
            num_records: rows that it must have.
            sha256: what `sha256` said when it was written; empty: not known, as of sets that older versions made.

        Raises:
            UserError: the file is missing, changed, or not an index of so many records.
        """
        try:
            with open(path, "rb") as file:
                if sha256 and _sha256(file) != sha256:
                    raise UserError(
                        f"the record index {path} was changed after it was written (its SHA-256 differs); {_ADVICE}"
                    )
                file.seek(0)  # of the very file that was checked; its bytes are not kept beside the arrays
                columns = _columns(file, path, num_records)
        except OSError as error:
            raise UserError(f"cannot read the record index {path}: {error.strerror}; {_ADVICE}") from None
        return cls(*columns)

    def fault(self, shard_sizes: list[int], shard_records: list[int]) -> str | None:
        """What cannot be true of this index.

        Args:
            shard_sizes: bytes of every shard.
            shard_records: indexed records of every shard.

        Returns:
            In words, with the row; None where every record lies within its shard and no two share a byte or an id.
        """
        checks = (
            ("shard", "is none of the manifest's", (self.shard < 0) | (self.shard >= len(shard_sizes))),
            ("height", "is not positive", self.height <= 0),
            ("width", "is not positive", self.width <= 0),
            ("num_boxes", "is negative", self.num_boxes < 0),
            ("offset", "is negative", self.offset < 0),
            ("length", "is not positive", self.length <= 0),
        )
        for name, what, wrong in checks:
            if wrong.any():
                row = int(wrong.argmax())
                return f"row {row}: {name} {getattr(self, name)[row]} {what}"
        room = np.array(shard_sizes, np.int64)[self.shard] - FRAME_BYTES - self.offset
        beyond = self.length > room
        if beyond.any():
            row = int(beyond.argmax())
            return f"row {row}: {self.length[row]} bytes from byte {self.offset[row]} go beyond the end of the shard"
        if (row := self._overlapping(slice(None))) is not None:  # as a rule they stand in this order
            order = np.lexsort((self.offset, self.shard))
            if (row := self._overlapping(order)) is not None:
                return f"row {int(order[row])}: its record lies over another"
        if not np.array_equal(np.bincount(self.shard, minlength=len(shard_records)), shard_records):
            return "the shards have not as many records as the manifest says"
        if not (self.image_id[1:] > self.image_id[:-1]).all():
            ids, counts = np.unique(self.image_id, return_counts=True)
            if (counts > 1).any():
                return f"image id {ids[counts.argmax()]} is there {counts.max()} times"
        return None

    def _overlapping(self, order: np.ndarray | slice) -> int | None:
        """The first row in this order whose record begins before the one before it ends, in the same shard or an
        earlier one; its place in the order."""
        shard, start = self.shard[order], self.offset[order]
        wrong = (start[:-1] + self.length[order][:-1] + FRAME_BYTES > start[1:]) & (shard[1:] == shard[:-1])
        wrong |= shard[1:] < shard[:-1]
        return int(wrong.argmax()) + 1 if wrong.any() else None


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _columns(file: BinaryIO, path: pathlib.Path, num_records: int) -> list[np.ndarray]:
    """The columns in the file of an index; `UserError` where it is damaged."""
    try:
        # A few bytes can declare an array of any size: nothing is unpacked that this many records do not need.
        sizes = {entry.filename: entry.file_size for entry in zipfile.ZipFile(file).infolist()}
        for name in _COLUMNS:
            if sizes[f"{name}.npy"] > 8 * num_records + _HEADER_BYTES:
                raise ValueError(f"column {name} has {sizes[f'{name}.npy']} bytes for {num_records} records")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return [_column(name, arrays[name], kind, num_records) for name, kind in _COLUMNS.items()]
    except Exception as error:  # zipfile and numpy raise nearly anything on damaged files
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"the record index {path} is damaged ({reason}); {_ADVICE}") from None


def _column(name: str, values: np.ndarray, kind: str, num_records: int) -> np.ndarray:
    if values.shape != (num_records,):
        raise ValueError(f"column {name} has the shape {list(values.shape)}, not [{num_records}]")
    if values.dtype != np.dtype(kind):
        raise ValueError(f"column {name} is of {values.dtype}, not {np.dtype(kind)}")
    return values
