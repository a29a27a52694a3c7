"""Where published weights are offered. tfdet downloads nothing: messages and documentation name the address.

Sources of the addresses: SimpleDet MODEL_ZOO.md; Detectron2 model_zoo/model_zoo.py; torchvision models/resnet.py and
models/detection; keras/src/applications/resnet.py.
"""

from __future__ import annotations

_SIMPLEDET = "https://simpledet-model.oss-cn-beijing.aliyuncs.com"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2"
_TORCHVISION = "https://download.pytorch.org/models"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"

IMAGENET = {
    "resnet-v1-50": f"{_SIMPLEDET}/resnet-v1-50-0000.params",
    "resnet-v1-101": f"{_SIMPLEDET}/resnet-v1-101-0000.params",
    "resnet-50": f"{_SIMPLEDET}/resnet-50-0000.params",
    "resnet-101": f"{_SIMPLEDET}/resnet-101-0000.params",
    "R-50": f"{_DETECTRON2}/ImageNetPretrained/MSRA/R-50.pkl",
    "R-101": f"{_DETECTRON2}/ImageNetPretrained/MSRA/R-101.pkl",
    "resnet50-0676ba61": f"{_TORCHVISION}/resnet50-0676ba61.pth",
    "resnet50-11ad3fa6": f"{_TORCHVISION}/resnet50-11ad3fa6.pth",
    "resnet101-63fe2227": f"{_TORCHVISION}/resnet101-63fe2227.pth",
    "resnet101-cd907fc2": f"{_TORCHVISION}/resnet101-cd907fc2.pth",
    **{
        name: f"{_KERAS}/{name}.h5"
        for name in (
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop",
            "resnet101_weights_tf_dim_ordering_tf_kernels_notop",
            "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop",
            "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop",
        )
    },
}
"""Backbones: short name -> address."""

DETECTORS = {
    # SimpleDet's archives hold the configuration, the log and `checkpoint.params`.
    **{
        name: f"{_SIMPLEDET}/{name}.zip"
        for name in (
            "faster_r50v1c4_c5_512roi_1x",
            "faster_r50v1c4_c5_512roi_1x_fp16",
            "faster_r50v2c4_c5_256roi_1x",
            "cascade_r50v2_c5_red_1x",
            "faster_r50v1_fpn_1x",
            "mask_r50v1_fpn_1x",
            "retina_r50v1_fpn_1x",
            "tridentnet_r50v2c4_c5_1x",
            "faster_r101v2c4_c5_256roi_1x",
            "faster_r101v2c4_c5_256roi_syncbn_1x",
            "faster_r101v1c4_c5_512roi_1x",
            "faster_r101v1c4_c5_512roi_1x_fp16",
            "faster_r101v1_fpn_1x",
            "cascade_r101v2_c5_red_1x",
            "tridentnet_r101v2c4_c5_1x",
            "tridentnet_r101v2c4_c5_fastapprox_1x",
            "retina_r101v1_fpn_1x",
        )
    },
    **{
        name: f"{_DETECTRON2}/{folder}/{name}/{file}"
        for name, folder, file in (
            ("faster_rcnn_R_50_C4_1x", "COCO-Detection", "137257644/model_final_721ade.pkl"),
            ("faster_rcnn_R_50_FPN_1x", "COCO-Detection", "137257794/model_final_b275ba.pkl"),
            ("faster_rcnn_R_101_FPN_3x", "COCO-Detection", "137851257/model_final_f6e8b1.pkl"),
            ("retinanet_R_50_FPN_1x", "COCO-Detection", "190397773/model_final_bfca0b.pkl"),
            ("mask_rcnn_R_50_C4_1x", "COCO-InstanceSegmentation", "137259246/model_final_9243eb.pkl"),
            ("mask_rcnn_R_50_FPN_1x", "COCO-InstanceSegmentation", "137260431/model_final_a54504.pkl"),
            ("mask_rcnn_R_101_FPN_3x", "COCO-InstanceSegmentation", "138205316/model_final_a3ec72.pkl"),
            ("cascade_mask_rcnn_R_50_FPN_1x", "Misc", "138602847/model_final_e9d89b.pkl"),
        )
    },
    "fasterrcnn_resnet50_fpn_coco-258fb6c6": f"{_TORCHVISION}/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "maskrcnn_resnet50_fpn_coco-bf2d0c1e": f"{_TORCHVISION}/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    "retinanet_resnet50_fpn_coco-eeacb38b": f"{_TORCHVISION}/retinanet_resnet50_fpn_coco-eeacb38b.pth",
}
"""Whole detectors of COCO: short name -> address."""


def address(name: str) -> str | None:
    """Where the file or archive of this name is offered; None where that is not known.

    Args:
        name: a short name, or a file name: an ending and SimpleDet's `-0000` are left out of account.
    """
    known = IMAGENET | DETECTORS
    stem = name.split(".")[0]
    return known.get(stem) or known.get(stem.removesuffix("-0000"))
