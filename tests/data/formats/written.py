"""Twenty small pictures and their objects, written in every format that is read."""

from __future__ import annotations

import json
from pathlib import Path

from tests.data.conftest import jpeg

CLASSES = ("cat", "dog", "zebra fish")
COUNT = 20


class Photo:
    """A picture: its name, sides, and objects (class, [x, y, width, height])."""

    def __init__(self, number: int):
        self.name = f"img_{number:02d}.jpg"
        self.height, self.width = (60, 40) if number % 5 == 0 else (40, 60)
        self.objects = [
            (CLASSES[(number + k) % 3], [3 + number % 7 + 9 * k, 2 + 5 * k, 8 + (number + 3 * k) % 9, 7 + number % 5])
            for k in range(number % 3 + 1)
        ]
        if number == COUNT - 1:  # without objects
            self.objects = []

    def polygon(self, box) -> list[float]:
        """A polygon with five corners that fills its box."""
        x, y, w, h = map(float, box)
        return [x + 2, y, x + w, y, x + w, y + h, x, y + h, x, y + 2.5]


PHOTOS = [Photo(number) for number in range(COUNT)]


def pictures(folder: Path, photos=PHOTOS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        (folder / photo.name).write_bytes(jpeg(photo.height, photo.width, PHOTOS.index(photo)))
    return folder


def area_of(polygon) -> float:
    xs, ys = polygon[0::2], polygon[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


def coco(folder: Path, masks=False, photos=PHOTOS, lvis=False, images="pictures", name="labels.json") -> Path:
    pictures(folder / images, photos)
    content = {"images": [], "annotations": [], "categories": []}
    for number, kind in enumerate(CLASSES, 1):
        content["categories"].append({"id": number, "name": kind, **({"frequency": "rcf"[number - 1]} if lvis else {})})
    for photo in photos:
        image_id = PHOTOS.index(photo) + 1
        entry = {"id": image_id, "height": photo.height, "width": photo.width}
        entry |= (
            {"coco_url": f"http://images.example/train2017/{photo.name}", "neg_category_ids": []}
            if lvis
            else {"file_name": photo.name}
        )
        content["images"].append(entry)
        for kind, box in photo.objects:
            item = {"id": len(content["annotations"]) + 1, "image_id": image_id, "bbox": box}
            item |= {"category_id": CLASSES.index(kind) + 1, "area": box[2] * box[3]}
            if masks:
                item |= {"segmentation": [photo.polygon(box)], "area": area_of(photo.polygon(box))}
            content["annotations"].append(item)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def voc(folder: Path, annotations="Annotations", images="JPEGImages") -> Path:
    pictures(folder / images)
    (folder / annotations).mkdir(parents=True, exist_ok=True)
    for photo in PHOTOS:
        objects = "".join(
            f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for kind, (x, y, w, h) in photo.objects
        )
        size = f"<size><width>{photo.width}</width><height>{photo.height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{photo.name}</filename>{size}{objects}</annotation>"
        (folder / annotations / photo.name.replace(".jpg", ".xml")).write_text(text)
    return folder


def yolo_lines(photo: Photo, masks=False) -> str:
    lines = []
    for kind, box in photo.objects:
        x, y, w, h = box
        values = [(x + w / 2) / photo.width, (y + h / 2) / photo.height, w / photo.width, h / photo.height]
        if masks:
            values = [v / (photo.height if k % 2 else photo.width) for k, v in enumerate(photo.polygon(box))]
        lines.append(" ".join([str(CLASSES.index(kind)), *(f"{value:.6f}" for value in values)]))
    return "".join(f"{line}\n" for line in lines)


def yolo(folder: Path, masks=False, images="images/train", labels="labels/train", yaml=None) -> Path:
    pictures(folder / images)
    (folder / labels).mkdir(parents=True, exist_ok=True)
    for photo in PHOTOS:
        (folder / labels / photo.name.replace(".jpg", ".txt")).write_text(yolo_lines(photo, masks))
    names = "\n".join(f"  {number}: {kind}" for number, kind in enumerate(CLASSES))
    (folder / "data.yaml").write_text(yaml or f"path: somewhere/else\ntrain: {images}\nnames:\n{names}\n")
    return folder


def labelme(folder: Path, masks=False) -> Path:
    pictures(folder)
    for photo in PHOTOS:
        shapes = []
        for kind, box in photo.objects:
            x, y, w, h = map(float, box)
            points = [[x + w, y], [x, y + h]]
            if masks:
                flat = photo.polygon(box)
                points = [list(pair) for pair in zip(flat[0::2], flat[1::2])]
            shape_type = "polygon" if masks else "rectangle"
            shapes.append({"label": kind, "points": points, "group_id": None, "shape_type": shape_type, "flags": {}})
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": photo.name, "imageData": None}
        content |= {"imageHeight": photo.height, "imageWidth": photo.width}
        (folder / photo.name.replace(".jpg", ".json")).write_text(json.dumps(content))
    return folder


def cvat(folder: Path, masks=False) -> Path:
    pictures(folder / "images")
    labels = "".join(f"<label><name>{kind}</name><color>#fff</color></label>" for kind in CLASSES)
    text = f"<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>1.1</version><meta><task><labels>{labels}"
    text += "</labels></task></meta>"
    for number, photo in enumerate(PHOTOS):
        text += f'<image id="{number}" name="{photo.name}" width="{photo.width}" height="{photo.height}">'
        for kind, box in photo.objects:
            x, y, w, h = box
            if masks:
                flat = photo.polygon(box)
                points = ";".join(f"{a:.2f},{b:.2f}" for a, b in zip(flat[0::2], flat[1::2]))
                text += f'<polygon label="{kind}" occluded="0" points="{points}" z_order="0"></polygon>'
            else:
                text += f'<box label="{kind}" xtl="{x}.00" ytl="{y}.00" xbr="{x + w}.00" ybr="{y + h}.00"></box>'
        text += "</image>"
    (folder / "annotations.xml").write_text(text + "</annotations>")
    return folder


def open_images(folder: Path) -> Path:
    pictures(folder / "train")
    rows = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"]
    codes = {kind: f"/m/0{number}" for number, kind in enumerate(reversed(CLASSES))}
    for photo in PHOTOS:
        for kind, (x, y, w, h) in photo.objects:
            sides = [x / photo.width, (x + w) / photo.width, y / photo.height, (y + h) / photo.height]
            numbers = ",".join(f"{side:.6f}" for side in sides)
            rows.append(f"{photo.name[:-4]},xclick,{codes[kind]},1,{numbers},0,0,0")
    rows.append(f"elsewhere,xclick,{codes['cat']},1,0.1,0.2,0.1,0.2,0,0,0")
    (folder / "oidv6-train-annotations-bbox.csv").write_text("\n".join(rows) + "\n")
    names = "".join(f"{code},{kind}\n" for kind, code in codes.items())
    (folder / "class-descriptions-boxable.csv").write_text(names)
    return folder


def csv_corners(folder: Path) -> Path:
    pictures(folder / "photos")
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for photo in PHOTOS:
        start = f"{photo.name},{photo.width},{photo.height}"
        rows += [f"{start},{kind},{x},{y},{x + w},{y + h}" for kind, (x, y, w, h) in photo.objects]
        if not photo.objects:
            rows.append(f"{start},,,,,")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def csv_fractions(folder: Path) -> Path:
    pictures(folder)
    rows = ["Image;Label;x;y;w;h"]
    for photo in PHOTOS:
        for kind, (x, y, w, h) in photo.objects:
            sides = [x / photo.width, y / photo.height, w / photo.width, h / photo.height]
            rows.append(";".join([f"C:\\photos\\{photo.name}", f'"{kind}"', *(f"{side:.7f}" for side in sides)]))
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    return folder


BOXES = {
    "coco": coco,
    "lvis": lambda folder: coco(folder, lvis=True, images="train2017"),
    "voc": voc,
    "voc labelImg": lambda folder: voc(folder, "one", "one"),
    "voc other names": lambda folder: voc(folder, "xml", "my photos/Tuesday"),
    "yolo": yolo,
    "yolo roboflow": lambda folder: yolo(folder, images="train/images", labels="train/labels"),
    "labelme": labelme,
    "cvat": cvat,
    "open_images": open_images,
    "csv": csv_corners,
    "csv fractions": csv_fractions,
}
MASKS = {
    "coco": lambda folder: coco(folder, masks=True),
    "lvis": lambda folder: coco(folder, masks=True, lvis=True),
    "yolo": lambda folder: yolo(folder, masks=True),
    "labelme": lambda folder: labelme(folder, masks=True),
    "cvat": lambda folder: cvat(folder, masks=True),
}
