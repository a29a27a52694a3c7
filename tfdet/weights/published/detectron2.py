"""What Detectron2 offers, as far as its architectures are here.

Sources: detectron2/model_zoo/model_zoo.py for the addresses, MODEL_ZOO.md for figures, licence and the six digits in a
file's name, which are the first of its MD5; projects/TridentNet/README.md.
"""

from __future__ import annotations

import re

from tfdet.weights.published.record import COCO_VAL, Published

_HOST = "https://dl.fbaipublicfiles.com/detectron2"
_DETECTRON = "https://dl.fbaipublicfiles.com/detectron"
_LICENCE = "CC BY-SA 3.0"

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""detectron2/data/datasets/pascal_voc.py: CLASS_NAMES."""

CITYSCAPES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""The classes with instances that Cityscapes measures, in the order of their ids."""

# name -> address, whose network
_BACKBONES = {
    "R-50": (f"{_HOST}/ImageNetPretrained/MSRA/R-50.pkl", "MSRA"),
    "R-101": (f"{_HOST}/ImageNetPretrained/MSRA/R-101.pkl", "MSRA"),
    "X-101-32x8d": (f"{_HOST}/ImageNetPretrained/FAIR/X-101-32x8d.pkl", "FAIR"),
    # In the form of the first Detectron, whose server has them.
    "R-50-GN": (f"{_DETECTRON}/ImageNetPretrained/47261647/R-50-GN.pkl", "FAIR"),
    "R-101-GN": (f"{_DETECTRON}/ImageNetPretrained/47592356/R-101-GN.pkl", "FAIR"),
    "X-152-32x8d-IN5k": (f"{_DETECTRON}/ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl", "FAIR"),
}

# folder -> name -> the rest of the address, box AP, mask AP
_COCO: dict[str, dict[str, tuple[str, float, float | None]]] = {
    "COCO-Detection": {
        "faster_rcnn_R_50_C4_1x": ("137257644/model_final_721ade", 35.7, None),
        "faster_rcnn_R_50_C4_3x": ("137849393/model_final_f97cb7", 38.4, None),
        "faster_rcnn_R_101_C4_3x": ("138204752/model_final_298dad", 41.1, None),
        "faster_rcnn_R_50_DC5_1x": ("137847829/model_final_51d356", 37.3, None),
        "faster_rcnn_R_50_DC5_3x": ("137849425/model_final_68d202", 39.0, None),
        "faster_rcnn_R_101_DC5_3x": ("138204841/model_final_3e0943", 40.6, None),
        "faster_rcnn_R_50_FPN_1x": ("137257794/model_final_b275ba", 37.9, None),
        "faster_rcnn_R_50_FPN_3x": ("137849458/model_final_280758", 40.2, None),
        "faster_rcnn_R_101_FPN_3x": ("137851257/model_final_f6e8b1", 42.0, None),
        "faster_rcnn_X_101_32x8d_FPN_3x": ("139173657/model_final_68b088", 43.0, None),
        "retinanet_R_50_FPN_1x": ("190397773/model_final_bfca0b", 37.4, None),
        "retinanet_R_50_FPN_3x": ("190397829/model_final_5bd44e", 38.7, None),
        "retinanet_R_101_FPN_3x": ("190397697/model_final_971ab9", 40.4, None),
    },
    "COCO-InstanceSegmentation": {
        "mask_rcnn_R_50_C4_1x": ("137259246/model_final_9243eb", 36.8, 32.2),
        "mask_rcnn_R_50_C4_3x": ("137849525/model_final_4ce675", 39.8, 34.4),
        "mask_rcnn_R_101_C4_3x": ("138363239/model_final_a2914c", 42.6, 36.7),
        "mask_rcnn_R_50_DC5_1x": ("137260150/model_final_4f86c3", 38.3, 34.2),
        "mask_rcnn_R_50_DC5_3x": ("137849551/model_final_84107b", 40.0, 35.9),
        "mask_rcnn_R_101_DC5_3x": ("138363294/model_final_0464b7", 41.9, 37.3),
        "mask_rcnn_R_50_FPN_1x": ("137260431/model_final_a54504", 38.6, 35.2),
        "mask_rcnn_R_50_FPN_3x": ("137849600/model_final_f10217", 41.0, 37.2),
        "mask_rcnn_R_101_FPN_3x": ("138205316/model_final_a3ec72", 42.9, 38.6),
        "mask_rcnn_X_101_32x8d_FPN_3x": ("139653917/model_final_2d9806", 44.3, 39.5),
    },
    "new_baselines": {
        "mask_rcnn_R_50_FPN_100ep_LSJ": ("42047764/model_final_bb69de", 44.6, 40.3),
        "mask_rcnn_R_50_FPN_200ep_LSJ": ("42047638/model_final_89a8d3", 46.3, 41.7),
        "mask_rcnn_R_50_FPN_400ep_LSJ": ("42019571/model_final_14d201", 47.4, 42.5),
        "mask_rcnn_R_101_FPN_100ep_LSJ": ("42025812/model_final_4f7b58", 46.4, 41.6),
        "mask_rcnn_R_101_FPN_200ep_LSJ": ("42131867/model_final_0bb7ae", 48.0, 43.1),
        "mask_rcnn_R_101_FPN_400ep_LSJ": ("42073830/model_final_f96b26", 48.9, 43.7),
    },
    "Misc": {
        "mask_rcnn_R_50_FPN_1x_dconv_c3-c5": ("138602867/model_final_65c703", 41.5, 37.5),
        "mask_rcnn_R_50_FPN_3x_dconv_c3-c5": ("144998336/model_final_821d0b", 42.7, 38.5),
        "cascade_mask_rcnn_R_50_FPN_1x": ("138602847/model_final_e9d89b", 42.1, 36.4),
        "cascade_mask_rcnn_R_50_FPN_3x": ("144998488/model_final_480dd8", 44.3, 38.5),
        "mask_rcnn_R_50_FPN_3x_gn": ("138602888/model_final_dc5d9e", 42.6, 38.6),
        "mask_rcnn_R_50_FPN_3x_syncbn": ("169527823/model_final_3b3c51", 41.9, 37.8),
        "scratch_mask_rcnn_R_50_FPN_3x_gn": ("138602908/model_final_01ca85", 39.9, 36.6),
        "scratch_mask_rcnn_R_50_FPN_9x_gn": ("183808979/model_final_da7b4c", 43.7, 39.6),
        "scratch_mask_rcnn_R_50_FPN_9x_syncbn": ("184226666/model_final_5ce33e", 43.6, 39.3),
        "cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv": ("18131413/model_0039999_e76410", 50.2, 44.0),
    },
    "TridentNet": {
        "tridentnet_fast_R_50_C4_1x": ("148572687/model_final_756cda", 38.0, None),
        "tridentnet_fast_R_50_C4_3x": ("148572287/model_final_e1027c", 40.6, None),
        "tridentnet_fast_R_101_C4_3x": ("148572198/model_final_164568", 43.6, None),
    },
}

_GIN_FILES = {
    # Rows that are older than their neighbours have no schedule in their names.
    "faster_rcnn_R_50_C4_1x": "faster_rcnn_r50_c4",
    "faster_rcnn_R_50_FPN_1x": "faster_rcnn_r50_fpn",
    "faster_rcnn_R_101_FPN_3x": "faster_rcnn_r101_fpn",
    "retinanet_R_50_FPN_1x": "retinanet_r50_fpn",
    "mask_rcnn_R_50_C4_1x": "mask_rcnn_r50_c4",
    "mask_rcnn_R_50_FPN_1x": "mask_rcnn_r50_fpn",
    "mask_rcnn_R_101_FPN_3x": "mask_rcnn_r101_fpn",
    "cascade_mask_rcnn_R_50_FPN_1x": "cascade_mask_rcnn_r50_fpn",
    # Of one network, whatever it learnt on and how long.
    "tridentnet_fast_R_50_C4_1x": "trident_fast_r50_c4",
    "tridentnet_fast_R_50_C4_3x": "trident_fast_r50_c4",
    "tridentnet_fast_R_101_C4_3x": "trident_fast_r50_c4",
}
"""Where they are not called as the file is, see `_gin_file`."""

_BINDINGS = {"tridentnet_fast_R_101_C4_3x": ("DEPTH = 101",)}

_OTHERS = (
    {
        "folder": "PascalVOC-Detection",
        "name": "faster_rcnn_R_50_C4",
        "rest": "142202221/model_final_b1acc2",
        "gin_file": "faster_rcnn_r50_c4",
        "classes": VOC,
        "box_ap": 51.9,
        "data": "VOC 2007 test",
    },
    {
        "folder": "Cityscapes",
        "name": "mask_rcnn_R_50_FPN",
        "rest": "142423278/model_final_af9cf5",
        "gin_file": "mask_rcnn_r50_fpn",
        "bindings": ("EvalInput.short_side = 1024", "EvalInput.long_side = 2048"),
        "classes": CITYSCAPES,
        "mask_ap": 36.5,
        "data": "Cityscapes val",
    },
)
"""Detectors of other classes than COCO's."""


def _gin_file(folder: str, name: str) -> str:
    """The row of a file: its name in lower case, R_50 as r50."""
    lower = re.sub(r"(?<=_[rx])_(?=\d)", "", name.lower())
    return f"{folder}/{lower}" if folder == "new_baselines" else _GIN_FILES.get(name, lower)


def _detector(
    folder: str,
    name: str,
    rest: str,
    gin_file: str,
    bindings: tuple[str, ...] = (),
    classes: tuple[str, ...] | None = None,
    box_ap: float | None = None,
    mask_ap: float | None = None,
    data: str = COCO_VAL,
) -> Published:
    endings = ("", ".yaml", ".py")
    return Published(
        name=f"detectron2/{name}" if data == COCO_VAL else f"detectron2/{folder}/{name}",
        addresses=(f"{_HOST}/{folder}/{name}/{rest}.pkl",),
        source="projects/TridentNet/README.md" if folder == "TridentNet" else "MODEL_ZOO.md",
        licence=_LICENCE,
        checksum=f"md5:{rest.rpartition('_')[2]}",
        gin_files=(f"detectron2/{gin_file}.gin",),
        bindings=bindings,
        classes=classes,
        box_ap=box_ap,
        mask_ap=mask_ap,
        data=data,
        former=tuple(f"{program}{folder}/{name}{ending}" for program in ("", "detectron2/") for ending in endings),
    )


def files() -> list[Published]:
    """Its ImageNet backbones, then its detectors."""
    backbones = [
        Published(
            name=f"detectron2/{name}",
            addresses=(address,),
            source=f"MODEL_ZOO.md: {'ImageNet-5k' if 'IN5k' in name else 'ImageNet'}, from {maker}",
            licence=_LICENCE,
        )
        for name, (address, maker) in _BACKBONES.items()
    ]
    coco = [
        _detector(folder, name, rest, _gin_file(folder, name), _BINDINGS.get(name, ()), None, box_ap, mask_ap)
        for folder, rows in _COCO.items()
        for name, (rest, box_ap, mask_ap) in rows.items()
    ]
    return [*backbones, *coco, *(_detector(**other) for other in _OTHERS)]
