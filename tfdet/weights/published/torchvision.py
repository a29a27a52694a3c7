"""What torchvision offers.

Source: the weights of models/resnet.py and models/detection of torchvision 0.29. The digits at the end of a name are
the first of the file's SHA-256 (torch/hub.py: load_state_dict_from_url, check_hash). The COCO_V1 detectors of the first
version were trained with a BN that adds nothing to the variance, which torchvision sets when it loads them
(overwrite_eps); those of the second version keep its 1e-5.
"""

from __future__ import annotations

from tfdet.weights.published.record import Published

_HOST = "https://download.pytorch.org/models"
_LICENCE = "not stated (BSD-3-Clause code)"
_MIB = 1 << 20

# name -> file, MiB
_BACKBONES = {
    "resnet50": ("resnet50-0676ba61", 97.781),
    "resnet50_v2": ("resnet50-11ad3fa6", 97.79),
    "resnet101": ("resnet101-63fe2227", 170.511),
    "resnet101_v2": ("resnet101-cd907fc2", 170.53),
    "resnet152": ("resnet152-394f9c45", 230.434),
    "resnet152_v2": ("resnet152-f82ba261", 230.474),
}

_FIRST_VERSION = ("EPSILON = 0.0",)
# name -> file, MiB, gin file, bindings, box AP, mask AP
_DETECTORS: dict[str, tuple[str, float, str, tuple[str, ...], float, float | None]] = {
    "fasterrcnn_resnet50_fpn": (
        "fasterrcnn_resnet50_fpn_coco-258fb6c6", 159.743, "fasterrcnn_r50_fpn.gin", _FIRST_VERSION, 37.0, None,
    ),
    "fasterrcnn_resnet50_fpn_v2": (
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a", 167.104, "fasterrcnn_r50_fpn_v2.gin", (), 46.7, None,
    ),
    "maskrcnn_resnet50_fpn": (
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e", 169.84, "maskrcnn_r50_fpn.gin", _FIRST_VERSION, 37.9, 34.6,
    ),
    "maskrcnn_resnet50_fpn_v2": (
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019", 177.219, "maskrcnn_r50_fpn_v2.gin", (), 47.4, 41.8,
    ),
    "retinanet_resnet50_fpn": (
        "retinanet_resnet50_fpn_coco-eeacb38b", 130.267, "retinanet_r50_fpn.gin", _FIRST_VERSION, 36.4, None,
    ),
    "retinanet_resnet50_fpn_v2": (
        "retinanet_resnet50_fpn_v2_coco-5905b1c5", 146.037, "retinanet_r50_fpn_v2.gin", (), 41.5, None,
    ),
}  # fmt: skip


def _checksum(file: str) -> str:
    return f"sha256:{file.rpartition('-')[2]}"


def files() -> list[Published]:
    """Its ImageNet backbones, then its detectors of COCO."""
    backbones = [
        Published(
            name=f"torchvision/{name}",
            addresses=(f"{_HOST}/{file}.pth",),
            source="models/resnet.py: IMAGENET1K_V2" if name.endswith("_v2") else "models/resnet.py: IMAGENET1K_V1",
            licence=_LICENCE,
            checksum=_checksum(file),
            size=round(size * _MIB),
        )
        for name, (file, size) in _BACKBONES.items()
    ]
    detectors = [
        Published(
            name=f"torchvision/{name}",
            addresses=(f"{_HOST}/{file}.pth",),
            source="models/detection: COCO_V1",
            licence=_LICENCE,
            checksum=_checksum(file),
            size=round(size * _MIB),
            gin_files=(f"torchvision/{gin_file}",),
            bindings=bindings,
            box_ap=box_ap,
            mask_ap=mask_ap,
        )
        for name, (file, size, gin_file, bindings, box_ap, mask_ap) in _DETECTORS.items()
    ]
    return [*backbones, *detectors]
