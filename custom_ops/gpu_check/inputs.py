"""Random inputs of the kernels, from a seed, made on the CPU."""

from __future__ import annotations

import math

import torch


def generator(seed: int) -> torch.Generator:
    """A source of random numbers on the CPU, the same on every machine."""
    return torch.Generator().manual_seed(seed)


def boxes(source, *shape, height=800.0, width=1333.0, smallest=4.0, largest=500.0) -> torch.Tensor:
    """Boxes float32 [*shape, 4] inside an image, of sides from `smallest` to `largest` pixels (log-uniform)."""
    low, high = math.log(smallest), math.log(largest)
    size = torch.exp(torch.rand(*shape, 2, generator=source) * (high - low) + low)
    limit = torch.tensor([width, height])
    size = torch.minimum(size, limit)
    corner = torch.rand(*shape, 2, generator=source) * (limit - size)
    return torch.cat([corner, corner + size - 1.0], dim=-1)


def odd_boxes() -> torch.Tensor:
    """Boxes that no kernel may stumble over, float32 [1, 9, 4]."""
    nan, inf = math.nan, math.inf
    rows = [
        [nan, 0, 50, 50],
        [0, inf, 50, 50],
        [-inf, -inf, inf, inf],
        [30, 30, 10, 10],
        [0, 0, 0, 0],
        [-500, -500, -400, -400],
        [1e30, 1e30, 2e30, 2e30],
        [5, 7, 6, 8],
        [-20, -20, 3000, 3000],
    ]
    return torch.tensor([rows], dtype=torch.float32)


def levels_of(rois: torch.Tensor, num_levels: int) -> torch.Tensor:
    """The level of every RoI, int32, by the square root of its area (112, 224, 448 pixels)."""
    size = ((rois[..., 2] - rois[..., 0] + 1) * (rois[..., 3] - rois[..., 1] + 1)).clamp(min=0).nan_to_num().sqrt()
    level = sum((size >= 112 * 2**i).int() for i in range(num_levels - 1))
    return (level if num_levels > 1 else torch.zeros_like(size)).int()


def pyramid(source, batch, shapes, channels, dtype) -> list[torch.Tensor]:
    """NHWC maps of normal values."""
    return [torch.randn(batch, h, w, channels, generator=source).to(dtype) for h, w in shapes]


def cell_anchors(stride: int, scales, ratios=(0.5, 1.0, 2.0)) -> torch.Tensor:
    """Anchors of one cell, float32 [A, 4]."""
    rows = []
    for ratio in ratios:
        width = round(math.sqrt(stride * stride / ratio))
        height = round(width * ratio)
        for scale in scales:
            w, h, centre = width * scale - 1, height * scale - 1, (stride - 1) / 2
            rows.append([centre - w / 2, centre - h / 2, centre + w / 2, centre + h / 2])
    return torch.tensor(rows, dtype=torch.float32)


def rpn_levels(source, batch, shapes, strides, scales, variant) -> list[tuple]:
    """What `Kernels.proposals` takes: probabilities, offsets, cell anchors, stride and variant of every level."""
    found = []
    for (height, width), stride in zip(shapes, strides):
        cells = cell_anchors(stride, scales)
        scores = torch.rand(batch, height, width, len(cells), generator=source)
        deltas = 0.3 * torch.randn(batch, height, width, 4 * len(cells), generator=source)
        found.append((scores, deltas, cells, float(stride), variant))
    return found


def deformable(source, batch, height, width, channels, dtype, options, modulated, spread=1.5):
    """NHWC inputs, offsets of `spread` pixels and a mask (or None) for `Kernels.deform_columns`."""
    kernel, stride, padding, dilation = (options[i : i + 2] for i in range(0, 8, 2))
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((height, width), kernel, stride, padding, dilation)
    ]
    samples = options[9] * kernel[0] * kernel[1]
    features = torch.randn(batch, height, width, channels, generator=source).to(dtype)
    offsets = spread * torch.randn(batch, *out, 2 * samples, generator=source)
    return features, offsets, torch.rand(batch, *out, samples, generator=source) if modulated else None
