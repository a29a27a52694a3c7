"""Which data sets are known by name: their archives, what is in them, the folders they become, their terms."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tfdet.config.files import did_you_mean
from tfdet.errors import UserError

_COCO = "http://images.cocodataset.org"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_VOC_MIRROR = "https://pjreddie.com/media/files"
_VOC_FILES = ("Annotations", "ImageSets/Main", "JPEGImages")


@dataclass(frozen=True)
class Archive:
    """A file with a part of a data set.

    Attributes:
        addresses: where it is published, the best first.
        size: bytes, as published; about, where the server makes it anew for each download.
        wanted: patterns of the names in it that are unpacked; `*` stands for slashes too.
        name: what it is called here.
    """

    addresses: tuple[str, ...]
    size: int
    wanted: tuple[str, ...]
    name: str

    @property
    def folder(self) -> str:
        """The name of the folder that it is unpacked into."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class CocoSource:
    """A file of COCO annotations with the folder of its images: each in an archive, by its name there."""

    annotations: Archive
    file: str
    images: Archive
    folder: str

    @property
    def archives(self) -> tuple[Archive, ...]:
        """Those that it needs."""
        return (self.annotations, self.images)


@dataclass(frozen=True)
class VocSource:
    """A split of a Pascal VOC folder, by its name in an archive."""

    archive: Archive
    folder: str
    split: str

    @property
    def archives(self) -> tuple[Archive, ...]:
        """Those that it needs."""
        return (self.archive,)


@dataclass(frozen=True)
class Part:
    """One data set folder that is made.

    Attributes:
        name: of the folder.
        sources: what it is made of: all of COCO, or all of VOC.
        images: how many it has, as published.
    """

    name: str
    sources: tuple[CocoSource, ...] | tuple[VocSource, ...]
    images: int

    @property
    def archives(self) -> tuple[Archive, ...]:
        """Those that it needs, each once."""
        return tuple(dict.fromkeys(archive for source in self.sources for archive in source.archives))


@dataclass(frozen=True)
class Published:
    """A data set that is known by name.

    Attributes:
        name: for `tfdet data fetch`.
        title: in words.
        parts: the folders that it becomes.
        terms: of use, as its makers state them.
        page: where that stands.
        classes: in the order of the program; empty: those that the annotations name.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    terms: str
    page: str
    classes: tuple[str, ...] = ()

    def archives(self, parts: tuple[Part, ...] | None = None) -> tuple[Archive, ...]:
        """Those that some parts need, or all, each once."""
        chosen = self.parts if parts is None else parts
        return tuple(dict.fromkeys(archive for part in chosen for archive in part.archives))


def _coco_images(split: str, size: int) -> Archive:
    return Archive((f"{_COCO}/zips/{split}.zip",), size, (f"*{split}/*",), f"{split}.zip")


def _coco_annotations(year: int, size: int, *splits: str) -> Archive:
    name = f"annotations_trainval{year}.zip"
    return Archive((f"{_COCO}/annotations/{name}",), size, tuple(f"*instances_{split}.json" for split in splits), name)


def _voc(file: str, year: int, size: int) -> Archive:
    wanted = tuple(f"*VOC{year}/{folder}/*" for folder in _VOC_FILES)
    return Archive((f"{_VOC}/voc{year}/{file}", f"{_VOC_MIRROR}/{file}"), size, wanted, file)


_TRAIN_2017, _VAL_2017 = _coco_images("train2017", 19_336_861_798), _coco_images("val2017", 815_585_330)
_TRAIN_2014, _VAL_2014 = _coco_images("train2014", 13_510_573_713), _coco_images("val2014", 6_645_013_297)
_BOXES_2017 = _coco_annotations(2017, 252_907_541, "train2017", "val2017")
_BOXES_2014 = _coco_annotations(2014, 252_872_794, "train2014")
# Detectron's archive: the lists that its authors and SimpleDet's cut val2014 by.
_BOXES_MINIVAL = Archive(
    ("https://dl.fbaipublicfiles.com/detectron/coco/coco_annotations_minival.tgz",),
    74_000_000,
    ("*instances_valminusminival2014.json", "*instances_minival2014.json"),
    "coco_annotations_minival.tgz",
)
_VOC_2007 = _voc("VOCtrainval_06-Nov-2007.tar", 2007, 460_032_000)
_VOC_2007_TEST = _voc("VOCtest_06-Nov-2007.tar", 2007, 451_020_800)
_VOC_2012 = _voc("VOCtrainval_11-May-2012.tar", 2012, 1_999_639_040)
_BCCD = Archive(
    ("https://github.com/Shenggan/BCCD_Dataset/archive/refs/tags/v1.0.zip",),
    7_600_000,
    tuple(f"*/BCCD/{folder}/*" for folder in _VOC_FILES),
    "BCCD_Dataset-1.0.zip",
)

_COCO_TERMS = "annotations CC BY 4.0; images by Flickr's terms of use"
_COCO_PAGE = "https://cocodataset.org/#termsofuse"
_VOC_TERMS = "images by Flickr's terms of use"
_VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def _coco(annotations: Archive, images: Archive, split: str) -> CocoSource:
    return CocoSource(annotations, f"instances_{split}.json", images, images.folder)


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        Published(
            "coco2017",
            "COCO 2017: boxes and masks of 80 classes",
            (
                Part("coco_train", (_coco(_BOXES_2017, _TRAIN_2017, "train2017"),), 118_287),
                Part("coco_val", (_coco(_BOXES_2017, _VAL_2017, "val2017"),), 5_000),
            ),
            _COCO_TERMS,
            _COCO_PAGE,
        ),
        Published(
            "coco2014_minival",
            "the same images as SimpleDet cuts COCO 2014: train2014 and valminusminival2014, minival2014",
            (
                Part(
                    "coco_trainval35k",
                    (
                        _coco(_BOXES_2014, _TRAIN_2014, "train2014"),
                        _coco(_BOXES_MINIVAL, _VAL_2014, "valminusminival2014"),
                    ),
                    118_287,
                ),
                Part("coco_minival", (_coco(_BOXES_MINIVAL, _VAL_2014, "minival2014"),), 5_000),
            ),
            _COCO_TERMS,
            _COCO_PAGE,
        ),
        Published(
            "voc2007",
            "Pascal VOC 2007: boxes of 20 classes",
            (
                Part("voc2007_trainval", (VocSource(_VOC_2007, "VOC2007", "trainval"),), 5_011),
                Part("voc2007_test", (VocSource(_VOC_2007_TEST, "VOC2007", "test"),), 4_952),
            ),
            _VOC_TERMS,
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
            _VOC_CLASSES,
        ),
        Published(
            "voc2012",
            "Pascal VOC 2012: boxes of 20 classes",
            (
                Part("voc2012_train", (VocSource(_VOC_2012, "VOC2012", "train"),), 5_717),
                Part("voc2012_val", (VocSource(_VOC_2012, "VOC2012", "val"),), 5_823),
            ),
            _VOC_TERMS,
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
            _VOC_CLASSES,
        ),
        Published(
            "bccd",
            "BCCD: red cells, white cells and platelets in blood",
            (
                Part("bccd_train", (VocSource(_BCCD, "BCCD", "train"),), 205),
                Part("bccd_val", (VocSource(_BCCD, "BCCD", "val"),), 87),
                Part("bccd_test", (VocSource(_BCCD, "BCCD", "test"),), 72),
            ),
            "MIT",
            "https://github.com/Shenggan/BCCD_Dataset",
        ),
    )
}
"""By name, in the order that they are listed in."""


def data_set_called(name: str) -> Published:
    """The data set of a name; `UserError` where none has it."""
    if name not in DATA_SETS:
        raise UserError(f"no data set {name!r}.{did_you_mean(name, DATA_SETS)} Known are {', '.join(DATA_SETS)}.")
    return DATA_SETS[name]


def maker_of(folder: str | os.PathLike) -> tuple[Published, Part] | None:
    """The data set that becomes a folder of this name, and its part; None for other names."""
    name = Path(folder).name
    found = ((data_set, part) for data_set in DATA_SETS.values() for part in data_set.parts if part.name == name)
    return next(found, None)


def how_to_make(folder: str | os.PathLike) -> str:
    """What makes a data set folder that is not there, as words for a message."""
    made = maker_of(folder)
    if made is None:
        return "`tfdet convert_data` writes one"
    return f"`{fetch_command(made[0], Path(folder).parent)}` makes it, or `tfdet convert_data` from what is on disk"


def fetch_command(data_set: Published, output: str | os.PathLike) -> str:
    """The command that makes a data set below a folder."""
    where = "" if Path(output) == Path("data") else f" --output={os.fspath(output)}"
    return f"tfdet data fetch {data_set.name}{where} --yes"
