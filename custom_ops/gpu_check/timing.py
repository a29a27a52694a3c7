"""The kernels at the shapes of training, beside torchvision's operators for the same work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import inputs
import torch
import torchvision
from kernels import Kernels

WARM_UP, REPEATS = 5, 31

FPN_SHAPES = ((200, 334), (100, 167), (50, 84), (25, 42))
FPN_STRIDES = (4, 8, 16, 32)
RPN_SHAPES = (*FPN_SHAPES, (13, 21))
RPN_STRIDES = (*FPN_STRIDES, 64)


class Timing(NamedTuple):
    """One kernel at one shape."""

    kernel: str
    shape: str
    dtype: str
    milliseconds: float  # median
    peer: float | None  # milliseconds of torchvision's operators for the same work; None where it has none
    bytes: int | None  # that have to be read and written at least once

    def bandwidth(self) -> float | None:
        """GB/s of the bytes that have to move."""
        return None if self.bytes is None else self.bytes / self.milliseconds / 1e6


def measure(work: Callable[[], object]) -> float:
    """Median milliseconds of `work` on the GPU, by events, after a warm-up."""
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def memory_bandwidth() -> float:
    """GB/s of a copy of 1 GiB on the device, bytes read and written."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / measure(lambda: target.copy_(source)) / 1e6


def run(kernels: Kernels) -> Iterator[Timing]:
    """All timings."""
    for dtype in (torch.float32, torch.float16):
        yield from _roi_align(kernels, "FPN 800x1333, 2 x 512 RoIs, 256 ch", FPN_SHAPES, FPN_STRIDES, 256, dtype)
        yield from _roi_align(kernels, "C4 50x84, 2 x 512 RoIs, 1024 ch", ((50, 84),), (16,), 1024, dtype)
        yield from _deform_conv(kernels, 100, 168, 128, dtype)
        yield from _deform_conv(kernels, 50, 84, 256, dtype)
    yield from _proposals(kernels)
    yield from _nms(kernels)
    yield from _match_boxes(kernels)


def _roi_align(kernels, shape, shapes, strides, channels, dtype):
    source, name = inputs.generator(1), str(dtype)[6:]
    maps = [m.cuda() for m in inputs.pyramid(source, 2, shapes, channels, dtype)]
    boxes = inputs.boxes(source, 2, 512, smallest=16.0)
    levels = inputs.levels_of(boxes, len(strides)).cuda()
    boxes = boxes.cuda()
    nchw = [m.permute(0, 3, 1, 2).contiguous().requires_grad_() for m in maps]
    peer = _torchvision_roi_align(nchw, boxes, levels, strides)
    pooled_bytes = 2 * 512 * 49 * channels * maps[0].element_size()
    map_bytes = sum(m.numel() * m.element_size() for m in maps)
    for mode in ("max", "average"):
        options = {"mode": mode, "sampling_ratio": 2, "aligned": mode == "average"}
        winner_bytes = pooled_bytes // maps[0].element_size() if mode == "max" else 0
        time = measure(lambda: kernels.roi_align(maps, boxes, levels, strides, 7, **options))  # noqa: B023
        moved = pooled_bytes + winner_bytes + map_bytes
        yield Timing(f"RoiAlign {mode}", shape, name, time, measure(peer), moved)
        pooled, winner = kernels.roi_align(maps, boxes, levels, strides, 7, **options)
        upstream = torch.randn_like(pooled)

        def gradient():
            return kernels.roi_align_grad(upstream, winner, maps, boxes, levels, strides, 7, **options)  # noqa: B023

        outputs = peer()
        seeds = [torch.randn_like(o) for o in outputs]

        def peer_gradient():
            return torch.autograd.grad(outputs, nchw, seeds, retain_graph=True, allow_unused=True)  # noqa: B023

        yield Timing(f"RoiAlignGrad {mode}", shape, name, measure(gradient), measure(peer_gradient), moved)


def _torchvision_roi_align(nchw, boxes, levels, strides):
    """torchvision's operator, once a level; the RoIs of every level are chosen beforehand, not in the time."""
    flat = torch.cat([torch.cat([torch.full_like(b[:, :1], i), b], dim=1) for i, b in enumerate(boxes)])
    own = [
        (m, flat[levels.flatten() == i].contiguous().to(m.dtype), 1.0 / s)
        for i, (m, s) in enumerate(zip(nchw, strides))
    ]
    return lambda: [torchvision.ops.roi_align(m, rois, 7, scale, 2, True) for m, rois, scale in own]


def _deform_conv(kernels, height, width, channels, dtype):
    """A unit's 3x3 convolution of ResNet-50 at 800x1333, version 2, columns and matrix products on both sides."""
    options = (3, 3, 1, 1, 1, 1, 1, 1, 1, 1)
    source, name = inputs.generator(8), str(dtype)[6:]
    own = [t.cuda() for t in inputs.deformable(source, 2, height, width, channels, dtype, options, True)]
    kernel = torch.randn(channels, channels, 3, 3, generator=source).to(dtype).cuda()
    weights = kernel.permute(2, 3, 1, 0).reshape(-1, channels)
    features, offsets, mask = (t.permute(0, 3, 1, 2).to(dtype).contiguous().requires_grad_() for t in own)
    kernel.requires_grad_()
    upstream = torch.randn(2, 1, height * width, channels, generator=source).to(dtype).cuda()

    def forward():
        return torch.matmul(kernels.deform_columns(*own, options)[0], weights)

    def gradient():
        columns = kernels.deform_columns(*own, options)[0]
        given = torch.matmul(upstream, weights.T)
        return kernels.deform_columns_grad(given, *own, options), columns.flatten(0, 2).T @ upstream.flatten(0, 2)

    def peer():
        return torchvision.ops.deform_conv2d(features, offsets, kernel, None, 1, 1, 1, mask)

    outputs = peer()
    seed = torch.randn_like(outputs)

    def peer_gradient():
        return torch.autograd.grad(outputs, (features, offsets, mask, kernel), seed, retain_graph=True)

    shape = f"2 x {height}x{width}x{channels}, 3x3, mask"
    # Inputs, offsets, mask and columns once; columns are read again by the product.
    moved = sum(t.numel() * t.element_size() for t in own) + 2 * 9 * own[0].numel() * own[0].element_size()
    yield Timing("DeformConv", shape, name, measure(forward), measure(peer), moved)
    yield Timing("DeformConvGrad", shape, name, measure(gradient), measure(peer_gradient), 2 * moved)


def _proposals(kernels):
    cases = (
        ("5 levels 800x1333, 2 images, 2000 of each", RPN_SHAPES, RPN_STRIDES, (8,), "v3", 2000),
        ("C4 50x84x15, 2 images, 12000", ((50, 84),), (16,), (2, 4, 8, 16, 32), "v1", 12000),
    )
    for shape, shapes, strides, scales, variant, top in cases:
        levels = inputs.rpn_levels(inputs.generator(2), 2, shapes, strides, scales, variant)
        levels = [tuple(x.cuda() if isinstance(x, torch.Tensor) else x for x in level) for level in levels]
        info = torch.tensor([[800.0, 1333.0, 1.5]] * 2).cuda()
        time = measure(lambda: kernels.proposals(levels, info, top, 2000))  # noqa: B023
        moved = sum(4 * (level[0].numel() + level[1].numel()) for level in levels)
        yield Timing("GenerateProposals", shape, "float32", time, measure(_torchvision_proposals(levels, top)), moved)


def _torchvision_proposals(levels, top):
    """What torchvision's RegionProposalNetwork does with the maps: top-k, decode, clip, batched NMS, top-k."""
    grids = []
    for scores, _, cells, stride, _ in levels:
        height, width = scores.shape[1:3]
        y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
        shift = torch.stack([x, y, x, y], dim=-1).cuda()
        grids.append((shift[:, :, None] + cells).reshape(-1, 4))

    def work():
        results = []
        for image in range(2):
            boxes, values, labels = [], [], []
            for index, ((scores, deltas, *_), anchors) in enumerate(zip(levels, grids)):
                flat = scores[image].flatten()
                best, order = flat.topk(min(top, flat.numel()))
                anchor, delta = anchors[order], deltas[image].reshape(-1, 4)[order]
                size = anchor[:, 2:] - anchor[:, :2]
                centre = anchor[:, :2] + 0.5 * size + delta[:, :2] * size
                half = 0.5 * size * delta[:, 2:].clamp(max=math.log(62.5)).exp()
                box = torch.cat([centre - half, centre + half], dim=1)
                boxes.append(torchvision.ops.clip_boxes_to_image(box, (800, 1333)))
                values.append(best)
                labels.append(torch.full_like(order, index))
            box, value, label = torch.cat(boxes), torch.cat(values), torch.cat(labels)
            keep = torchvision.ops.batched_nms(box, value, label, 0.7)[:2000]
            results.append((box[keep], value[keep]))
        return results

    return work


def _nms(kernels):
    source = inputs.generator(4)
    boxes = inputs.boxes(source, 2, 1000)[:, :, None].cuda()
    scores = (torch.rand(2, 1000, 80, generator=source) ** 8).cuda()
    time = measure(lambda: kernels.batched_nms(boxes, scores, 0.5, 100, score_threshold=0.05))

    def peer():
        results = []
        for image in range(2):
            row, label = torch.nonzero(scores[image] > 0.05, as_tuple=True)
            value = scores[image][row, label]
            keep = torchvision.ops.batched_nms(boxes[image, row, 0], value, label, 0.5)[:100]
            results.append((boxes[image, row[keep], 0], value[keep], label[keep]))
        return results

    moved = 4 * (boxes.numel() + scores.numel())
    yield Timing("BatchedNms", "2 x 1000 boxes x 80 classes to 100", "float32", time, measure(peer), moved)


def _match_boxes(kernels):
    source = inputs.generator(6)
    boxes, truth = inputs.boxes(source, 1, 267069).cuda(), inputs.boxes(source, 2, 100).cuda()
    masks = (
        torch.ones(1, boxes.shape[1], dtype=torch.bool).cuda(),
        torch.ones(2, 100, dtype=torch.bool).cuda(),
        torch.zeros(2, 100, dtype=torch.bool).cuda(),
    )
    time = measure(lambda: kernels.match_boxes(boxes, masks[0], truth, *masks[1:]))

    def peer():
        results = []
        for image in range(2):
            iou = torchvision.ops.box_iou(truth[image], boxes[0])
            best, index = iou.max(dim=0)
            results.append((best, index, (iou == iou.max(dim=1, keepdim=True).values).any(dim=0)))
        return results

    moved = 4 * (boxes.numel() + 2 * truth.numel() + 2 * 4 * boxes.shape[1])
    yield Timing("MatchBoxes", "267069 anchors x 100, 2 images", "float32", time, measure(peer), moved)
