"""What SimpleDet offers.

Sources: MODEL_ZOO.md of its last revision and utils/download_pretrain.py. The files moved twice; the newest host is
asked first. The figures of Cascade R-CNN on C5 and of TridentNet on R50 changed with the code (commits 8c3ac80 and
969847d): those files are read by the later revision's rules.
"""

from __future__ import annotations

from tfdet.weights.published.record import Published

_HOSTS = ("https://1dv.aflat.top", "https://1dv.alarge.space", "https://simpledet-model.oss-cn-beijing.aliyuncs.com")
_MINIVAL = "COCO minival2014"

# file -> the network, and the same weights of Detectron2
_BACKBONES = {
    "resnet-v1-50": ("ResNet-50, from MSRA", "detectron2/R-50"),
    "resnet-v1-101": ("ResNet-101, from MSRA", "detectron2/R-101"),
    "resnet-50": ("ResNet-50 v2, from MXNet", ""),
    "resnet-101": ("ResNet-101 v2, from MXNet", ""),
    "resnet50_v1b": ("ResNet-50 v1b, from GluonCV", ""),
    "resnet101_v1b": ("ResNet-101 v1b, from GluonCV", ""),
    "resnet152_v1b": ("ResNet-152 v1b, from GluonCV", ""),
}

_CASCADE, _TRIDENT = "overlays/later_revision_cascade.gin", "overlays/later_revision_trident.gin"
# file -> gin files, box AP, mask AP
_DETECTORS: dict[str, tuple[tuple[str, ...], float, float | None]] = {
    "faster_r50v1c4_c5_512roi_1x": (("faster_r50v1_c4.gin",), 34.2, None),
    "faster_r50v1c4_c5_512roi_1x_fp16": (("faster_r50v1_c4_fp16.gin",), 34.4, None),
    "faster_r50v2c4_c5_256roi_1x": (("faster_r50v2_c4.gin",), 32.8, None),
    "cascade_r50v2_c5_red_1x": (("cascade_r50v2_c5.gin", _CASCADE), 38.8, None),
    "cascade_r50v1_fpn_1x": (("cascade_r50v1_fpn.gin",), 40.3, None),
    "faster_r50v1_fpn_1x": (("faster_r50v1_fpn.gin",), 36.5, None),
    "mask_r50v1_fpn_1x": (("mask_r50v1_fpn.gin",), 37.1, 33.7),
    "retina_r50v1_fpn_1x": (("retina_r50v1_fpn.gin",), 35.6, None),
    "tridentnet_r50v2c4_c5_1x": (("trident_r50v2_c4.gin", _TRIDENT), 37.1, None),
    "faster_r101v2c4_c5_256roi_1x": (("faster_r101v2_c4.gin",), 37.6, None),
    "faster_r101v2c4_c5_256roi_syncbn_1x": (("faster_r101v2_c4_syncbn.gin",), 38.6, None),
    "faster_r101v1c4_c5_512roi_1x": (("faster_r101v1_c4.gin",), 38.3, None),
    "faster_r101v1c4_c5_512roi_1x_fp16": (("faster_r101v1_c4_fp16.gin",), 38.1, None),
    "faster_r101v1_fpn_1x": (("faster_r101v1_fpn.gin",), 38.7, None),
    "cascade_r101v2_c5_red_1x": (("cascade_r101v2_c5.gin", _CASCADE), 41.0, None),
    "cascade_r101v1_fpn_1x": (("cascade_r101v1_fpn.gin",), 42.3, None),
    "tridentnet_r101v2c4_c5_1x": (("trident_r101v2_c4.gin",), 40.6, None),
    "tridentnet_r101v2c4_c5_fastapprox_1x": (("trident_fast_r101v2_c4.gin",), 39.9, None),
    "retina_r101v1_fpn_1x": (("retina_r101v1_fpn.gin",), 37.8, None),
}


def _addresses(file: str) -> tuple[str, ...]:
    return tuple(f"{host}/{file}" for host in _HOSTS)


def files() -> list[Published]:
    """Its ImageNet backbones, then the detectors of its zoo; the archives of these hold `checkpoint.params`."""
    backbones = [
        Published(
            name=f"simpledet/{name}",
            addresses=_addresses(f"{name}-0000.params"),
            source=f"MODEL_ZOO.md: {network}",
            licence="not stated",
            same_source=same,
        )
        for name, (network, same) in _BACKBONES.items()
    ]
    detectors = [
        Published(
            name=f"simpledet/{name}",
            addresses=_addresses(f"{name}.zip"),
            source="MODEL_ZOO.md",
            licence="not stated",
            gin_files=gin_files,
            box_ap=box_ap,
            mask_ap=mask_ap,
            data=_MINIVAL,
        )
        for name, (gin_files, box_ap, mask_ap) in _DETECTORS.items()
    ]
    return [*backbones, *detectors]
