"""What Keras offers: the ImageNet backbones of keras.applications, without their last layer.

Source: keras/src/applications/resnet.py, with its MD5 checksums.
"""

from __future__ import annotations

from tfdet.weights.published.record import Published

_HOST = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
_CHECKSUMS = {
    "resnet50": "4d473c1dd8becc155b73f8504c6f6626",
    "resnet101": "88cf7a10940856eca736dc7b7e228a21",
    "resnet50v2": "fac2f116257151a9d068a22e544a4917",
    "resnet101v2": "c0ed64b8031c3730f411d2eb4eea35b5",
}


def files() -> list[Published]:
    """Its ResNets and ResNets V2."""
    return [
        Published(
            name=f"keras/{name}",
            addresses=(f"{_HOST}/{name}_weights_tf_dim_ordering_tf_kernels_notop.h5",),
            source="keras/src/applications/resnet.py",
            licence="not stated (Apache-2.0 code)",
            checksum=f"md5:{checksum}",
        )
        for name, checksum in _CHECKSUMS.items()
    ]
