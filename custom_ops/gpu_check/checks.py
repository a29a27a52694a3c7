"""Every CUDA kernel against the CPU kernel, and both against torchvision's operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import inputs
import torch
import torchvision
from kernels import Kernels

STRIDES = (4, 8, 16, 32)
PYRAMID = ((50, 84), (25, 42), (13, 21), (7, 11))
# A value of the type against the same value in another order of additions.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


class Check(NamedTuple):
    """One comparison."""

    kernel: str
    case: str
    against: str
    difference: float  # largest, over the largest absolute value of the reference; or the share of rows that differ
    tolerance: float

    @property
    def passed(self) -> bool:
        """False also for a difference that is not a number."""
        return self.difference <= self.tolerance


def run(kernels: Kernels, device: str, names: Sequence[str]) -> Iterator[Check]:
    """The checks of the named kernels; on the device "cpu" those against torchvision alone.

    Args:
        kernels: the library.
        device: "cuda" or "cpu".
        names: of "roi_align", "deform_conv", "nms", "proposals", "match_boxes".
    """
    parts = {
        "roi_align": (_roi_align_twins, _roi_align_torchvision),
        "deform_conv": (_deform_columns_twins, _deform_conv_torchvision),
        "nms": (_nms,),
        "proposals": (_proposals,),
        "match_boxes": (_match_boxes,),
    }
    for name in names:
        for part in parts[name]:
            yield from part(kernels, device)
    if device == "cuda":
        torch.cuda.synchronize()  # an illegal access anywhere above is reported here at the latest


def _to(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(_to(v, device) for v in value)
    return value


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach().float().cpu(), expected.detach().float().cpu()
    if found.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The share of entries that are not equal."""
    found, expected = found.cpu(), expected.cpu()
    if found.shape != expected.shape:
        return 1.0
    return float((found != expected).float().mean()) if expected.numel() else 0.0


def _again(kernel: str, case: str, function: Callable, *arguments, **options) -> Check:
    """The same call three times: every bit has to be the same."""
    first, *others = [function(*arguments, **options) for _ in range(3)]
    same = all(torch.equal(_bits(a), _bits(b)) for other in others for a, b in zip(first, other) if a is not None)
    return Check(kernel, case, "itself, again", 0.0 if same else 1.0, 0.0)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


def _roi_align_twins(kernels, device):
    """CUDA against CPU, forward and gradient: modes, types, odd channel counts, odd boxes, no RoI."""
    if device == "cpu":
        return
    for mode, ratio, aligned in (("max", 2, False), ("average", 2, False), ("average", 0, True)):
        for dtype in TOLERANCE:
            for channels, rois in ((256, 40), (7, 40), (64, 0)):
                source = inputs.generator(channels)
                maps = inputs.pyramid(source, 2, PYRAMID, channels, dtype)
                boxes = inputs.boxes(source, 2, rois, height=200.0, width=336.0)
                boxes = torch.cat([boxes, inputs.odd_boxes().expand(2, -1, -1)], dim=1) if rois else boxes
                levels = inputs.levels_of(boxes, len(STRIDES))
                options = {"mode": mode, "sampling_ratio": ratio, "aligned": aligned}
                expected, won = kernels.roi_align(maps, boxes, levels, STRIDES, 7, **options)
                there = _to([maps, boxes, levels], device)
                found, winner = kernels.roi_align(*there, STRIDES, 7, **options)
                case = f"{mode} ratio {ratio}, {str(dtype)[6:]}, {channels} channels, {boxes.shape[1]} RoIs"
                yield Check("RoiAlign", case, "CPU kernel", _difference(found, expected), TOLERANCE[dtype])
                if boxes.shape[1] and channels == 256:
                    yield _again("RoiAlign", case, kernels.roi_align, *there, STRIDES, 7, **options)
                upstream = torch.randn(expected.shape, generator=source).to(dtype)
                # The CPU's winners for both: a tie that rounds otherwise is no error of the gradient.
                own = kernels.roi_align_grad(upstream, won, maps, boxes, levels, STRIDES, 7, **options)
                other = kernels.roi_align_grad(upstream.to(device), _to(won, device), *there, STRIDES, 7, **options)
                worst = max(_difference(f, e) for f, e in zip(other, own))
                yield Check("RoiAlignGrad", case, "CPU kernel", worst, TOLERANCE[dtype])


def _roi_align_torchvision(kernels, device):
    for ratio, aligned in ((2, False), (2, True), (0, True), (3, False)):
        source = inputs.generator(3)
        features = inputs.pyramid(source, 2, ((40, 60),), 24, torch.float32)[0]
        boxes = inputs.boxes(source, 2, 50, height=160.0, width=240.0)
        features, boxes = features.to(device), boxes.to(device)
        levels = torch.zeros(boxes.shape[:2], dtype=torch.int32, device=device)
        options = {"mode": "average", "sampling_ratio": ratio, "aligned": aligned}
        found, _ = kernels.roi_align([features], boxes, levels, (4,), 7, **options)
        nchw = features.permute(0, 3, 1, 2).contiguous().requires_grad_()
        expected = torchvision.ops.roi_align(nchw, list(boxes), 7, 0.25, ratio, aligned)
        case = f"average ratio {ratio}, {'aligned' if aligned else 'not aligned'}"
        as_rows = expected.permute(0, 2, 3, 1).reshape(found.shape)
        yield Check("RoiAlign", case, "torchvision", _difference(found, as_rows), 2e-5)
        upstream = torch.randn(found.shape, generator=source).to(device)
        expected.backward(upstream.flatten(0, 1).permute(0, 3, 1, 2))
        gradient = kernels.roi_align_grad(upstream, None, [features], boxes, levels, (4,), 7, **options)[0]
        yield Check("RoiAlignGrad", case, "torchvision", _difference(gradient.permute(0, 3, 1, 2), nchw.grad), 2e-5)


# Kernel, stride, padding and dilation, each y and x; groups; offset groups.
DEFORM = {
    "3x3": (3, 3, 1, 1, 1, 1, 1, 1, 1, 1),
    "3x3, stride 2, 4 offset groups": (3, 3, 2, 2, 1, 1, 1, 1, 1, 4),
    "3x2, dilation 2, 2 groups": (3, 2, 1, 2, 2, 1, 2, 2, 2, 1),
}


def _deform_columns_twins(kernels, device):
    """CUDA against CPU, forward and gradients: options, types, odd channel counts, odd offsets, no image."""
    if device == "cpu":
        return
    for name, options in DEFORM.items():
        for dtype in TOLERANCE:
            for channels, batch, modulated in ((256, 2, True), (24, 2, False), (20, 2, True), (32, 0, True)):
                source = inputs.generator(channels)
                own = inputs.deformable(source, batch, 25, 42, channels, dtype, options, modulated)
                odd = torch.rand(own[1].shape, generator=source)
                for value, share in ((float("nan"), 0.01), (float("inf"), 0.02), (-3e38, 0.03), (-1.0, 0.05)):
                    own[1][(odd >= share - 0.01) & (odd < share)] = value
                there = _to(own, device)
                case = f"{name}, {str(dtype)[6:]}, {batch} x {channels} channels{', mask' if modulated else ''}"
                expected = kernels.deform_columns(*own, options)[0]
                found = kernels.deform_columns(*there, options)[0]
                yield Check("DeformColumns", case, "CPU kernel", _difference(found, expected), TOLERANCE[dtype])
                upstream = torch.randn(expected.shape, generator=source).to(dtype)
                wanted = kernels.deform_columns_grad(upstream, *own, options)
                gradients = kernels.deform_columns_grad(upstream.to(device), *there, options)
                worst = max(_difference(f, e) for f, e in zip(gradients, wanted) if e is not None)
                yield Check("DeformColumnsGrad", case, "CPU kernel", worst, max(TOLERANCE[dtype], 1e-4))
                if channels == 256:
                    yield _again("DeformColumns", case, kernels.deform_columns, *there, options)


def _deform_conv_torchvision(kernels, device):
    """Columns times a kernel, and the gradients, against torchvision.ops.deform_conv2d."""
    for name, options in DEFORM.items():
        for modulated in (False, True):
            source = inputs.generator(9)
            features, offsets, mask = _to(
                inputs.deformable(source, 2, 14, 17, 24, torch.float32, options, modulated), device
            )
            groups, taps = options[8], options[0] * options[1]
            kernel = torch.randn(12, 24 // groups, *options[:2], generator=source).to(device)
            nchw = [
                None if t is None else t.permute(0, 3, 1, 2).contiguous().requires_grad_()
                for t in (features, offsets, mask)
            ]
            own = [options[i : i + 2] for i in (2, 4, 6)]
            expected = torchvision.ops.deform_conv2d(nchw[0], nchw[1], kernel, None, *own, nchw[2])
            columns = kernels.deform_columns(features, offsets, mask, options)[0]
            # [G, taps C / G, filters / G], taps first.
            weights = kernel.reshape(groups, 12 // groups, 24 // groups, taps).permute(0, 3, 2, 1).flatten(1, 2)
            found = torch.matmul(columns, weights).transpose(2, 3).reshape(expected.shape)
            case = f"{name}{', mask' if modulated else ''}"
            yield Check("DeformColumns", case, "torchvision", _difference(found, expected), 1e-4)
            upstream = torch.randn(expected.shape, generator=source).to(device)
            expected.backward(upstream)
            by_group = upstream.reshape(2, groups, 12 // groups, -1).transpose(2, 3)
            given = torch.matmul(by_group, weights.transpose(1, 2)).contiguous()
            gradients = kernels.deform_columns_grad(given, features, offsets, mask, options)
            worst = max(_difference(g.permute(0, 3, 1, 2), t.grad) for g, t in zip(gradients, nchw) if t is not None)
            yield Check("DeformColumnsGrad", case, "torchvision", worst, 1e-4)


def _nms(kernels, device):
    for count, classes, threshold in ((1, 1, 0.5), (300, 1, 0.5), (5000, 1, 0.7), (1000, 80, 0.5), (0, 3, 0.5)):
        source = inputs.generator(count)
        boxes = inputs.boxes(source, 1, count, height=300.0, width=300.0)[:, :, None]
        # No two alike: torchvision leaves the order of equal scores open.
        scores = torch.randperm(count * classes, generator=source).reshape(1, count, classes) / max(count * classes, 1)
        limit = max(count * classes, 1)
        case = f"{count} boxes, {classes} classes, {threshold}"
        found = kernels.batched_nms(boxes.to(device), scores.to(device), threshold, limit, extra_pixel=0.0)
        flat = boxes[0].expand(-1, classes, -1).reshape(-1, 4)
        labels = torch.arange(classes).repeat(count)
        kept = torchvision.ops.batched_nms(flat.to(device), scores.flatten().to(device), labels.to(device), threshold)
        number = int(found[4][0])
        same = number == len(kept) and torch.equal(found[3][0, :number].cpu(), (kept.cpu() // classes).int())
        yield Check("BatchedNms", case, "torchvision", 0.0 if same else 1.0, 0.0)
        if device == "cpu":
            continue
        for method in ("hard", "linear", "gaussian"):
            options = {"score_threshold": 0.05, "method": method}
            own = kernels.batched_nms(boxes, scores, threshold, 100, **options)
            other = kernels.batched_nms(boxes.to(device), scores.to(device), threshold, 100, **options)
            # Soft scores go through exp, which rounds otherwise on a GPU: neighbours in the order may swap.
            worst = _share(other[3], own[3]) if method == "hard" else _difference(other[1], own[1])
            yield Check("BatchedNms", f"{case}, {method}", "CPU kernel", worst, 0.0 if method == "hard" else 1e-4)
            again = boxes.to(device), scores.to(device), threshold, 100
            yield _again("BatchedNms", f"{case}, {method}", kernels.batched_nms, *again, **options)


def _proposals(kernels, device):
    if device == "cpu":
        return
    shapes, strides = ((50, 84), (25, 42), (13, 21)), (8, 16, 32)
    for variant in ("v1", "v2", "v3", "symbolic"):
        levels = inputs.rpn_levels(inputs.generator(5), 2, shapes, strides, (8,), variant)
        info = torch.tensor([[390.0, 660.0, 1.5], [400.0, 672.0, 2.0]])
        ranges = torch.tensor([[0.0, 90.0], [30.0, 160.0]]) if variant == "v2" else None
        own = kernels.proposals(levels, info, 1000, 300, area_range=ranges)
        other = kernels.proposals(_to(levels, device), info.to(device), 1000, 300, area_range=_to(ranges, device))
        # exp rounds otherwise on a GPU: a box at the threshold may be dropped, and the rows below it move up.
        missing = [_absent(a, b) for a, b in zip(own[0], other[0].cpu())]
        yield Check("GenerateProposals", variant, "CPU kernel", max(missing), 0.01)
        there = _to(levels, device), info.to(device), 1000, 300
        yield _again("GenerateProposals", variant, kernels.proposals, *there, area_range=_to(ranges, device))


def _absent(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The share of boxes that have no counterpart within a hundredth of a pixel."""
    distance = torch.cdist(expected, found, p=float("inf"))
    return float((distance.min(dim=1).values > 1e-2).float().mean())


def _match_boxes(kernels, device):
    for count, gts in ((20000, 60), (5000, 1), (300, 0), (0, 5)):
        source = inputs.generator(gts)
        boxes = inputs.boxes(source, 1, count)
        truth = inputs.boxes(source, 2, gts)
        inside = torch.rand(1, count, generator=source) < 0.9
        valid = torch.rand(2, gts, generator=source) < 0.9
        crowd = torch.rand(2, gts, generator=source) < 0.1
        arguments = (boxes, inside, truth, valid, crowd)
        found = kernels.match_boxes(*_to(arguments, device))
        case = f"{count} boxes, {gts} ground truths"
        if device == "cuda":
            own = kernels.match_boxes(*arguments)
            worst = max(_share(f, e) for f, e in zip(found, own))
            yield Check("MatchBoxes", case, "CPU kernel", worst, 0.0)
            yield _again("MatchBoxes", case, kernels.match_boxes, *_to(arguments, device))
        if not gts or not count:
            continue
        every = torch.ones_like(inside), torch.ones_like(valid), torch.zeros_like(crowd)
        found = kernels.match_boxes(
            boxes.to(device), every[0].to(device), truth.to(device), every[1].to(device), every[2].to(device), 0.0
        )
        iou = torch.stack([torchvision.ops.box_iou(boxes[0], t) for t in truth])
        yield Check("MatchBoxes", case, "torchvision", _difference(found[0], iou.max(dim=2).values), 1e-5)
