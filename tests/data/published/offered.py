"""Small archives of the published layout: what servers offer to tests, by host and path as on a mirror."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

COCO, VOC = "/images.cocodataset.org", "/host.robots.ox.ac.uk/pascal/VOC"
CLASSES = ["person", "bicycle", "car"]


def jpeg(number: int, height: int = 60, width: int = 80) -> bytes:
    """A picture with one bright square."""
    pixels = np.full([height, width, 3], 40, np.uint8)
    pixels[10:40, 10 + number % 20 : 40 + number % 20] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar archive; mode "w:gz" zips it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def coco_json(ids, name: str = "{:012d}.jpg", classes=CLASSES) -> bytes:
    """Annotations of drawn images: the square, with its mask; ids count from 1."""
    images = [{"id": number, "file_name": name.format(number), "height": 60, "width": 80} for number in ids]
    boxes = []
    for number in ids:
        left = 10 + number % 20
        polygon = [left, 10, left + 30, 10, left + 30, 40, left, 40]
        boxes.append(
            {"id": number, "image_id": number, "category_id": 1 + number % len(classes), "bbox": [left, 10, 30, 30]}
            | {"area": 900, "iscrowd": 0, "segmentation": [polygon]}
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories}).encode()


def coco2017(train: int = 6, val: int = 3, classes=CLASSES) -> dict[str, bytes]:
    """The three archives of COCO 2017 by path."""
    splits = {"train2017": range(1, train + 1), "val2017": range(1001, 1001 + val)}
    offered = {
        f"{COCO}/zips/{split}.zip": zipped({f"{split}/{number:012d}.jpg": jpeg(number) for number in ids})
        for split, ids in splits.items()
    }
    files = {f"annotations/instances_{split}.json": coco_json(ids, classes=classes) for split, ids in splits.items()}
    files["annotations/captions_val2017.json"] = b"{}"
    return offered | {f"{COCO}/annotations/annotations_trainval2017.zip": zipped(files)}


def coco2014() -> dict[str, bytes]:
    """COCO 2014 with Detectron's lists of its validation images."""
    names = {"train2014": "COCO_train2014_{:012d}.jpg", "val2014": "COCO_val2014_{:012d}.jpg"}
    splits = {"train2014": range(1, 5), "val2014": range(101, 106)}
    offered = {
        f"{COCO}/zips/{split}.zip": zipped({f"{split}/{names[split].format(k)}": jpeg(k) for k in ids})
        for split, ids in splits.items()
    }
    trainval = {f"annotations/instances_{split}.json": coco_json(ids, names[split]) for split, ids in splits.items()}
    minival = {
        f"annotations/instances_{split}2014.json": coco_json(ids, names["val2014"])
        for split, ids in {"valminusminival": range(101, 104), "minival": range(104, 106)}.items()
    }
    detectron = "/dl.fbaipublicfiles.com/detectron/coco/coco_annotations_minival.tgz"
    return offered | {
        f"{COCO}/annotations/annotations_trainval2014.zip": zipped(trainval),
        detectron: tarred(minival, "w:gz"),
    }


def voc_files(root: str, splits: dict[str, list[str]], classes: list[str]) -> dict[str, bytes]:
    """The files of a Pascal VOC folder."""
    files: dict[str, bytes] = {}
    for split, stems in splits.items():
        files[f"{root}/ImageSets/Main/{split}.txt"] = "".join(f"{stem}\n" for stem in stems).encode()
        for number, stem in enumerate(stems):
            files[f"{root}/JPEGImages/{stem}.jpg"] = jpeg(number)
            name = classes[number % len(classes)]
            files[f"{root}/Annotations/{stem}.xml"] = (
                f"<annotation><filename>{stem}.jpg</filename><size><width>80</width><height>60</height></size><object>"
                f"<name>{name}</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"
                "</object></annotation>"
            ).encode()
    return files


def voc() -> dict[str, bytes]:
    """The archives of Pascal VOC 2007 and 2012."""
    names = ["cat", "tvmonitor"]
    old, test = {"trainval": ["000001", "000002"]}, {"test": ["000003"]}
    new = {"train": ["2008_000001", "2008_000002"], "val": ["2008_000003"]}
    return {
        f"{VOC}/voc2007/VOCtrainval_06-Nov-2007.tar": tarred(voc_files("VOCdevkit/VOC2007", old, names)),
        f"{VOC}/voc2007/VOCtest_06-Nov-2007.tar": tarred(voc_files("VOCdevkit/VOC2007", test, names)),
        f"{VOC}/voc2012/VOCtrainval_11-May-2012.tar": tarred(voc_files("VOCdevkit/VOC2012", new, names)),
    }


def bccd() -> dict[str, bytes]:
    """GitHub's archive of BCCD."""
    splits = {"train": ["BloodImage_00000", "BloodImage_00001", "BloodImage_00002"], "val": ["b"], "test": ["c"]}
    files = voc_files("BCCD_Dataset-1.0/BCCD", splits, ["RBC", "WBC", "Platelets"])
    files["BCCD_Dataset-1.0/README.md"] = b"BCCD"
    return {"/github.com/Shenggan/BCCD_Dataset/archive/refs/tags/v1.0.zip": zipped(files)}
