"""What is known of one published file of weights."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

COCO_VAL = "COCO val2017"


@dataclass(frozen=True)
class Published:
    """A file of weights that a program offers.

    Attributes:
        name: `PROGRAM/NAME`, as people write it.
        addresses: where it is offered, the newest first.
        source: where the figures stand.
        licence: of the file, as far as its publisher says it.
        checksum: as `tfdet.fetch.download` takes it; None where none is published.
        size: in bytes, about; None where it is not published.
        gin_files: of the detector that it fills; none for a backbone.
        bindings: further lines of gin that belong to it.
        classes: names of the classes, in the file's order; None: COCO's 80, or it has no classes.
        box_ap: percent.
        mask_ap: percent.
        data: what they were measured on.
        former: other names, by which it was known before.
        same_source: name of a file that another program made of the same weights; "" where there is none.
    """

    name: str
    addresses: tuple[str, ...]
    source: str
    licence: str
    checksum: str | None = None
    size: int | None = None
    gin_files: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    data: str = COCO_VAL
    former: tuple[str, ...] = ()
    same_source: str = ""

    @property
    def program(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    @property
    def file_name(self) -> str:
        """What the file is called at its address."""
        return urlsplit(self.addresses[0]).path.rpartition("/")[2]

    @property
    def is_detector(self) -> bool:
        """Whether it is a whole detector; else it is a backbone."""
        return bool(self.gin_files)

    def names(self) -> set[str]:
        """All that it may be called: with and without the program, by its file, as before."""
        short = self.name.partition("/")[2]
        stem = self.file_name.rpartition(".")[0]
        return {self.name, short, stem, stem.removesuffix("-0000"), *self.former}
