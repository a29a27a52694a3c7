"""Runs SimpleDet's network of a weights file on one image: a program of its own, with MXNet, without tfdet.

    python run_mxnet.py WEIGHTS INPUT.npz OUTPUT.npz

The network is written after SimpleDet's symbols and mxnext's backbones, of MXNet's own operators alone: SimpleDet's,
such as ROIAlign_v2, need its own build of MXNet. What they make, features of RoIs, is therefore an input.

INPUT has
    pixels: uint8 [H, W, 3], RGB.
    num_stages: of the backbone, 3 or 4.
    dilate_c5: whether stage 4 of a ResNet-v2 has stride 1 and dilation 2; a Cascade's has in any case.
    branches: int [k, 2], number and dilation of each branch of a TridentNet; k = 0 for a network without.
    roi_features: float32 [R, C, 7, 7] where the network has a box head, or several, or stage 4 runs on RoIs.
    mask_features: float32 [R, C, 14, 14] where it has a mask head.
OUTPUT gets the maps by name, [B, C, H, W], and of the heads on RoIs [R, C] or [R, C, 28, 28].

BN is folded or not, and fully connected layers are matrices or 1x1 convolutions, by the tensors that the file has.
"""

from __future__ import annotations  # for Python 3.8, where MXNet may live

import re
import sys

import mxnet as mx
import numpy as np

_EPSILON = 1e-5 + 1e-10  # mxnext complicate.py: normalizer_factory
_PIXEL_MEAN = (122.7717, 115.9465, 102.9801)  # config/*.py: NormParam; ResNet-v2 has bn_data instead
_STRIDES = (1, 2, 2, 2)
_LEFT = re.compile(r"arg:anchor_stride\d+|arg:fc1_(weight|bias)|.*_shared\d_(gamma|beta)")
"""No weights of a detector: stored anchors, ImageNet's classifier; and copies of a BN for branches that are not run."""


class Network:
    """The tensors of a file, and the layers that are called by their names.

    Args:
        tensors: by name with `arg:` or `aux:`.
    """

    def __init__(self, tensors: dict):
        self.tensors, self.taken = tensors, set()
        self.is_v2 = self.has("bn_data_beta")

    def has(self, name: str) -> bool:
        """Whether the file has an argument of this name."""
        return f"arg:{name}" in self.tensors

    def take(self, name: str, kind: str = "arg"):
        """A tensor, which counts as used from now on."""
        full = f"{kind}:{name}"
        if full not in self.tensors:
            raise RuntimeError(f"it has no tensor {full}")
        self.taken.add(full)
        return self.tensors[full].astype("float32")

    def conv(self, x, name: str, stride: int = 1, dilate: int = 1):
        """[B, Cin, H, W] -> [B, Cout, H/stride, W/stride]; padded as mxnext simple.py: conv does."""
        weight = self.take(f"{name}_weight")
        kernel = weight.shape[2:]
        bias = {"bias": self.take(f"{name}_bias")} if self.has(f"{name}_bias") else {"no_bias": True}
        return mx.nd.Convolution(
            x,
            weight,
            **bias,
            kernel=kernel,
            stride=(stride, stride),
            dilate=(dilate, dilate),
            pad=tuple(((k - 1) * dilate + 1) // 2 for k in kernel),
            num_filter=weight.shape[0],
        )

    def fc(self, x, name: str):
        """[R, ...] -> [R, C], over the flattened rest; as 1x1 convolution in the later revision."""
        x = mx.nd.flatten(x)
        if self.take(f"{name}_weight").ndim == 4:
            return mx.nd.flatten(self.conv(x.reshape((0, 0, 1, 1)), name))
        weight = self.take(f"{name}_weight")
        bias = {"bias": self.take(f"{name}_bias")} if self.has(f"{name}_bias") else {"no_bias": True}
        return mx.nd.FullyConnected(x, weight, **bias, num_hidden=weight.shape[0])

    def norm(self, x, name: str, branch: int | None = None):
        """BN with stored statistics, or what utils/graph_optimize.py: merge_bn makes of it: a scale and a shift.

        Folding copies the BN of a unit with branches for each of them: name and `_shared`, the branch's number.
        """
        if branch is not None and self.has(f"{name}_shared{branch}_gamma"):
            name = f"{name}_shared{branch}"
        gamma, beta = self.take(f"{name}_gamma"), self.take(f"{name}_beta")
        if f"aux:{name}_moving_mean" not in self.tensors and gamma.ndim == 4:
            return mx.nd.broadcast_add(mx.nd.broadcast_mul(x, gamma), beta)
        mean, variance = self.take(f"{name}_moving_mean", "aux"), self.take(f"{name}_moving_var", "aux")
        # The gamma of the image's BN is 1, whatever the file says (mxnext backbone/resnet_v2.py).
        options = {"eps": _EPSILON, "use_global_stats": True, "fix_gamma": name == "bn_data"}
        return mx.nd.BatchNorm(x, gamma, beta, mean, variance, **options)

    def unit(self, x, name: str, stride: int = 1, dilate: int = 1, branch: int | None = None):
        """A residual unit (mxnext backbone/resnet_v1.py, resnet_v2.py: resnet_unit), with `sc` of a projection."""
        project = self.has(f"{name}_sc_weight")
        if self.is_v2:
            first = mx.nd.relu(self.norm(x, f"{name}_bn1"))
            shortcut = self.conv(first, f"{name}_sc", stride) if project else x
            y = mx.nd.relu(self.norm(self.conv(first, f"{name}_conv1"), f"{name}_bn2", branch))
            y = mx.nd.relu(self.norm(self.conv(y, f"{name}_conv2", stride, dilate), f"{name}_bn3", branch))
            return self.conv(y, f"{name}_conv3") + shortcut
        shortcut = self.norm(self.conv(x, f"{name}_sc", stride), f"{name}_sc_bn") if project else x
        y = mx.nd.relu(self.norm(self.conv(x, f"{name}_conv1", stride), f"{name}_bn1"))
        y = mx.nd.relu(self.norm(self.conv(y, f"{name}_conv2", 1, dilate), f"{name}_bn2"))
        return mx.nd.relu(self.norm(self.conv(y, f"{name}_conv3"), f"{name}_bn3") + shortcut)

    def stage(self, x, number: int, stride: int, dilate: int = 1, branches=()):
        """All units that the file has of a stage; from the second on in branches, which share their weights.

        Branches are put behind each other: [1, C, H, W] -> [k, C, H, W] (models/tridentnet/resnet_v2.py).
        """
        x = self.unit(x, f"stage{number}_unit1", stride, dilate)
        chains = [(x, dilate, None)] if not len(branches) else [(x, int(d), int(i)) for i, d in branches]
        for place, (y, own, branch) in enumerate(chains):
            count = 2
            while self.has(f"stage{number}_unit{count}_conv1_weight"):
                y = self.unit(y, f"stage{number}_unit{count}", 1, own, branch)
                count += 1
            chains[place] = y
        return mx.nd.concat(*chains, dim=0)

    def final(self, x):
        """BN and ReLU behind the last stage of a ResNet-v2; nothing behind that of a ResNet-v1."""
        return mx.nd.relu(self.norm(x, "bn1")) if self.is_v2 else x

    def left_over(self, ignored: re.Pattern) -> list:
        """Tensors that nothing took."""
        return sorted(name for name in self.tensors if name not in self.taken and not ignored.fullmatch(name))


def backbone(network: Network, pixels, num_stages: int, dilate_c5: bool, branches) -> list:
    """Maps of the stages; of ResNet-v2 plain sums, the last of four behind BN and ReLU (resnet_c4c5_factory)."""
    x = mx.nd.array(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    if network.is_v2:
        x = network.norm(x, "bn_data")
    else:
        x = mx.nd.broadcast_sub(x, mx.nd.array(_PIXEL_MEAN).reshape((1, 3, 1, 1)))
    x = mx.nd.relu(network.norm(network.conv(x, "conv0", 2), "bn0"))
    x = mx.nd.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", pooling_convention="valid")
    maps = []
    for number, stride in enumerate(_STRIDES[:num_stages], 1):
        dilated = number == 4 and dilate_c5
        x = network.stage(x, number, 1 if dilated else stride, 1 + dilated, branches if number == 3 else ())
        maps.append(network.final(x) if number == 4 else x)
    return maps


def pyramid_of(network: Network, maps: list) -> list:
    """Laterals, sums from the top down, 3x3 convolutions (models/FPN/builder.py: FPNNeck; retinanet/builder.py)."""
    is_retina = network.has("P6_conv_weight")
    levels = range(3 if is_retina else 2, 6)
    laterals = {k: network.conv(maps[k - 2], f"P{k}_lateral") for k in levels}
    for k in reversed(levels[:-1]):
        up = mx.nd.UpSampling(laterals[k + 1], scale=2, sample_type="nearest")
        laterals[k] = laterals[k] + mx.nd.slice_like(up, laterals[k], axes=(2, 3))
    result = [network.conv(laterals[k], f"P{k}_conv") for k in levels]
    if not is_retina:
        return [*result, mx.nd.Pooling(result[-1], kernel=(1, 1), stride=(2, 2), pool_type="max")]
    p6 = network.conv(maps[3], "P6_conv", 2)
    return [*result, p6, network.conv(mx.nd.relu(p6), "P7_conv", 2)]


def retina_head(network: Network, x) -> tuple:
    """(class logits, box deltas) of one level (models/retinanet/builder.py: RetinaNetHead)."""
    outputs = []
    for tower in ("cls", "bbox"):
        y, number = x, 1
        while network.has(f"{tower}_conv{number}_weight"):
            y, number = mx.nd.relu(network.conv(y, f"{tower}_conv{number}")), number + 1
        outputs.append(network.conv(y, f"{tower}_pred"))
    return tuple(outputs)


def rpn_head(network: Network, x) -> tuple:
    """(logits, deltas) of one level (symbol/builder.py: RpnHead; models/FPN/builder.py: FPNRpnHead)."""
    on_pyramid = network.has("rpn_conv_weight")
    names = ("rpn_conv", "rpn_conv_cls", "rpn_conv_bbox")
    first, *last = names if on_pyramid else ("rpn_conv_3x3", "rpn_cls_logit", "rpn_bbox_delta")
    x = mx.nd.relu(network.conv(x, first))
    return tuple(network.conv(x, name) for name in last)


def box_head(network: Network, features, suffix: str) -> dict:
    """Outputs of a box head on RoI features, of two fully connected layers or stage 4 of the backbone at stride 1.

    models/FPN/builder.py: FPNBbox2fcHead; models/cascade_rcnn/builder.py: CascadeBbox2fcHead; symbol/builder.py:
    BboxC5Head, BboxC5V1Head.
    """
    outputs = {}
    if network.has(f"bbox_fc1{suffix}_weight"):
        x = mx.nd.relu(network.fc(features, f"bbox_fc1{suffix}"))
        x = mx.nd.relu(network.fc(x, f"bbox_fc2{suffix}"))
    else:
        outputs["roi_stage_4"] = x = network.final(network.stage(features, 4, 1))
        x = mx.nd.Pooling(x, kernel=x.shape[2:], global_pool=True, pool_type="avg")
    if network.has(f"bbox_cls_logit{suffix}_weight"):  # not of a backbone alone
        outputs[f"bbox_logits{suffix}"] = network.fc(x, f"bbox_cls_logit{suffix}")
        outputs[f"bbox_deltas{suffix}"] = network.fc(x, f"bbox_reg_delta{suffix}")
    return outputs


def mask_head(network: Network, x):
    """Logits of all planes (models/maskrcnn/builder.py: MaskFasterRcnn4ConvHead); numbered from 0, later from 1."""
    number = 0 if network.has("mask_fcn_conv0_weight") else 1
    while network.has(f"mask_fcn_conv{number}_weight"):
        x = mx.nd.relu(network.conv(x, f"mask_fcn_conv{number}"))
        number += 1
    weight, bias = network.take("mask_up0_weight"), network.take("mask_up0_bias")
    options = {"kernel": (2, 2), "stride": (2, 2), "num_filter": weight.shape[1], "no_bias": False}
    return network.conv(mx.nd.relu(mx.nd.Deconvolution(x, weight, bias, **options)), "mask_fcn_logit")


def outputs_of(network: Network, given) -> dict:
    """All maps of the network that the file has."""
    necks = [name for name in ("conv_neck", "backbone_reduce") if network.has(f"{name}_weight")]
    maps = backbone(
        network, given["pixels"], int(given["num_stages"]), bool(given["dilate_c5"]) or bool(necks), given["branches"]
    )
    outputs = {f"stage_{k}": x for k, x in enumerate(maps, 1)}
    levels, head, names = [], rpn_head, ("rpn_logits", "rpn_deltas")
    if network.has("P5_lateral_weight"):
        levels = pyramid_of(network, maps)
        outputs.update({f"fpn_{k}": x for k, x in enumerate(levels)})
    elif network.has("rpn_conv_3x3_weight"):
        levels = [maps[2]]
    if network.has("cls_pred_weight"):
        head, names = retina_head, ("cls_logits", "box_deltas")
    for k, x in enumerate(levels):
        outputs.update({f"{name}_{k}": y for name, y in zip(names, head(network, x))})
    for name in necks:
        outputs["neck"] = mx.nd.relu(network.conv(maps[3], name))
    if "roi_features" in given.files:
        suffixes = ("_1st", "_2nd", "_3rd") if network.has("bbox_cls_logit_1st_weight") else ("",)
        for suffix in suffixes:
            outputs.update(box_head(network, mx.nd.array(given["roi_features"]), suffix))
    if "mask_features" in given.files:
        outputs["mask_logits"] = mask_head(network, mx.nd.array(given["mask_features"]))
    return outputs


def main(weights: str, source: str, target: str) -> None:
    """Reads, runs, writes."""
    given = np.load(source)
    network = Network(mx.nd.load(weights))
    outputs = outputs_of(network, given)
    ignored = _LEFT.pattern
    if int(given["num_stages"]) == 3 and "roi_features" not in given.files:  # stage 4 is in no head either
        ignored += r"|(arg|aux):(stage4|bn1)_.*"
    left = network.left_over(re.compile(ignored))
    if left:
        raise RuntimeError(f"{left[0]} is left over")
    np.savez(target, **{name: array.asnumpy() for name, array in outputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
