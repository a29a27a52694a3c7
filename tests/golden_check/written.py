"""Golden folders that tests write themselves, of rows whose maps SimpleDet did not store.

They are of a detector that is wired by hand, by SimpleDet's names and layouts. They show that the comparison reads
such a folder, that the row's gin files build that detector, and that a difference is seen; not that the maps are
SimpleDet's.
"""

import json
import re

import numpy as np
import tensorflow as tf

from tfdet.detectors.preprocess import normalize_images
from tfdet.weights import write_params
from tfdet.weights.maps import simpledet
from tfdet.weights.maps.rules import source_of


def random_weights(detector):
    """Biases, predictors and gammas large enough that no map vanishes."""
    rng = np.random.default_rng(0)
    for weight in detector.weights:
        if weight.path.endswith("bias") or "predictor" in weight.path:
            weight.assign(rng.normal(0, 0.1, weight.shape))
        elif weight.path.endswith("gamma") and "bn_data" not in weight.path:
            weight.assign(rng.uniform(0.3, 0.7, weight.shape))


def _simpledets_layout(source, value):
    """From a variable's layout to SimpleDet's."""
    if "mask_up0_weight" in source or value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if "bbox_fc1" in source and value.ndim == 2:
        out = value.shape[1]
        return value.reshape(7, 7, -1, out).transpose(3, 2, 0, 1).reshape(out, -1)[..., None, None]
    return value.T


def checkpoint(detector, first_number=1):
    """The detector's tensors by SimpleDet's names, the mask's convolutions numbered from `first_number`."""
    arrays, rules = {}, simpledet.name_map(detector).rules
    for weight in detector.weights:
        source, _ = source_of(weight.path, rules)
        number = re.fullmatch(r"arg:mask_fcn_conv(\d)_(\w+)", source)
        if number:
            source = f"arg:mask_fcn_conv{int(number[1]) + first_number}_{number[2]}"
        arrays[source] = np.ascontiguousarray(_simpledets_layout(source, weight.numpy()))
    return arrays


def write_inputs(folder, detector, row, pre_nms):
    """All of a folder but its outputs; returns the normalised image and `image_info`."""
    folder.mkdir(exist_ok=True)
    arrays = checkpoint(detector)
    write_params(folder / "params.params", arrays)
    write_params(folder / "params_unmerged_bn.params", {k: v for k, v in arrays.items() if k.endswith("_gamma")})
    changed = rf"pre_nms_top_n = (\d+) if is_train else \d+ -> pre_nms_top_n = \1 if is_train else {pre_nms} (x1)"
    (folder / "meta.json").write_text(json.dumps({"row": row, "substitutions": [changed]}))
    image = np.random.default_rng(1).integers(0, 256, (128, 160, 3)).astype(np.uint8)
    info = tf.constant([[128.0, 160.0, 1.0]])
    inputs = normalize_images(tf.constant(image[None]), info, detector.pixel_mean, detector.pixel_std)
    numbers = {"rec_id": np.float32([3]), "im_id": np.float32([7])}
    np.savez(folder / "inputs.npz", data=nchw(inputs), im_info=info.numpy(), image_rgb_uint8=image, **numbers)
    return inputs, info


def identities(info):
    """The first results of every graph: what it was given."""
    return {"HEAD0:rec_id": np.float32([3]), "HEAD1:im_id": np.float32([7]), "HEAD2:im_info": info.numpy()}


def nchw(x):
    """[B, H, W, C] -> [B, C, H, W]."""
    return np.asarray(x).transpose(0, 3, 1, 2)
