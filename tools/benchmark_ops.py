"""Times the custom ops beside TensorFlow's own, and beside torchvision's CPU operators where they are installed.

    python -m tools.benchmark_ops [--repeats 15] [--only RoIAlign] [--output docs/ops_benchmark.md]

Each op runs at a detector's sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import platform
import shlex
import sys
from collections.abc import Callable
from typing import NamedTuple

# Before TensorFlow or not at all: loaded after it, it ends the process (torchvision 0.29, TensorFlow 2.20).
if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import torchvision  # noqa: F401

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfdet.bench.results import machine  # noqa: E402
from tfdet.data.canvas import Canvas  # noqa: E402
from tfdet.data.resize import resize_image  # noqa: E402
from tfdet.errors import EXIT_OK, UserError  # noqa: E402
from tfdet.ops import native  # noqa: E402
from tfdet.ops.anchors import cell_anchors, grid_anchors  # noqa: E402
from tfdet.ops.boxes import CONTINUOUS  # noqa: E402
from tfdet.ops.deform_conv import deform_conv2d  # noqa: E402
from tfdet.ops.matching import match_boxes  # noqa: E402
from tfdet.ops.nms import nms  # noqa: E402
from tfdet.ops.proposals import generate_proposals  # noqa: E402
from tfdet.ops.roi_align import roi_align  # noqa: E402
from tools import side_by_side  # noqa: E402
from tools.side_by_side import Case, Side  # noqa: E402

NATIVE, PORTABLE, TORCHVISION = "custom op", "TensorFlow", "torchvision"
RATIOS = (0.5, 1.0, 2.0)


class Sizes(NamedTuple):
    """How much work each case is. The defaults are a detector's in training, at 800 x 1333 pixels."""

    nms_boxes: int = 12000
    nms_kept: int = 2000
    roi_map: tuple[int, int] = (200, 336)
    roi_channels: int = 256
    rois: int = 512
    deform_map: tuple[int, int] = (50, 84)  # conv4 of 800 x 1344
    deform_channels: int = 256
    match_image: tuple[int, int] = (800, 1216)  # 242,991 anchors on five levels
    match_boxes: int = 500
    image: tuple[int, int] = (800, 1333)
    canvas: tuple[int, int] = (800, 1344)
    images: int = 2
    fpn_candidates: int = 2000  # a level, before suppression
    c4_candidates: int = 12000
    proposals: int = 2000
    photo: tuple[int, int] = (480, 640)
    short_side: int = 800


FULL = Sizes()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--repeats", type=int, default=15, metavar="N", help="runs of each, in turn (default 15)")
    parser.add_argument("--only", metavar="TEXT", help="only cases whose name contains this, such as RoIAlign")
    parser.add_argument("--output", metavar="FILE.md", help="write the table to this markdown file as well")


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table and writes it where asked to."""
    from rich.console import Console
    from rich.markup import escape

    from tfdet import __version__

    if args.repeats < 1:
        raise UserError(f"--repeats {args.repeats} must be at least 1")
    console, every = Console(soft_wrap=True), cases(FULL)
    chosen = [case for case in every if not args.only or args.only.lower() in case.name.lower()]
    if not chosen:
        raise UserError(f"--only {args.only}: no such case. There are: {'; '.join(case.name for case in every)}")
    missing = notes()
    for note in missing:
        console.print(f"[yellow]{escape(note)}")

    def tell(name: str) -> None:
        console.print(f"measuring {name}", highlight=False)

    measurements = side_by_side.measure(chosen, args.repeats, tell)
    title = "Custom ops beside TensorFlow's own"
    for table in side_by_side.tables(measurements):
        console.print(table)
    console.print(side_by_side.LEGEND)
    console.print(machine(), highlight=False)
    if args.output:
        only = ["--only", args.only] if args.only else []
        flags = ["--repeats", str(args.repeats), *only, "--output", args.output]
        command = shlex.join(["python", "-m", "tools.benchmark_ops", *flags])
        versions = {"tfdet": __version__, "TensorFlow": tf.__version__, "NumPy": np.__version__}
        versions |= torch_versions() | {"Python": platform.python_version()}
        side_by_side.write_markdown(args.output, title, command, measurements, versions, missing)
        console.print(f"written to {escape(args.output)}")
    return EXIT_OK


def cases(sizes: Sizes = FULL) -> list[Case]:
    """All cases. Without the custom ops they lack that side."""
    rng = np.random.default_rng(0)
    return [
        _nms(rng, sizes),
        *_roi_align(rng, sizes),
        *_deform_conv(rng, sizes),
        _match_boxes(rng, sizes),
        _proposals_fpn(rng, sizes),
        _proposals_c4(rng, sizes),
        *_fit_image(rng, sizes),
    ]


def notes() -> list[str]:
    """What is missing from the cases here, and why."""
    missing = []
    if not _has_native():
        missing.append(f"The custom ops are not measured: {native.state().reason}")
    if not _has_torchvision():
        missing.append("torchvision's operators are not measured: torch and torchvision are not installed.")
    return missing


def torch_versions() -> dict[str, str]:
    """Versions of torch and torchvision, empty where they are not measured."""
    if not _has_torchvision():
        return {}
    import torch
    import torchvision

    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


def _has_native() -> bool:
    return native.state().library is not None


def _has_torchvision() -> bool:
    # It has to be loaded before TensorFlow: see above.
    return "torchvision" in sys.modules


def _both(function: Callable, *arguments) -> list[Side]:
    """The custom op and TensorFlow's own, each in a graph of its own."""
    sides = []
    for implementation, name in (("native", NATIVE), ("python", PORTABLE)):
        if implementation == "native" and not _has_native():
            continue
        with native.implementation(implementation):  # decides when the graph is traced
            graph = tf.function(function).get_concrete_function(*arguments)
        sides.append(Side(name, lambda graph=graph: graph(*arguments)))
    return sides


def _random_boxes(rng, count: int, image: tuple[int, int], smallest: float, largest: float) -> np.ndarray:
    corner = rng.uniform(0, 1, (count, 2)) * (np.array(image[::-1]) - smallest)
    size = np.exp(rng.uniform(np.log(smallest), np.log(largest), (count, 2)))
    far = np.minimum(corner + size, np.array(image[::-1]) - 1.0)
    return np.concatenate([corner, far], axis=1).astype(np.float32)


def _nms(rng, sizes: Sizes) -> Case:
    # Eight boxes around each of so many objects, so that suppression has what to suppress.
    objects = _random_boxes(rng, -(-sizes.nms_boxes // 8), sizes.image, 16, 400)
    boxes = np.repeat(objects, 8, axis=0)[: sizes.nms_boxes]
    boxes = tf.constant(boxes + rng.normal(0, 4, boxes.shape).astype(np.float32))
    scores = tf.constant(rng.permutation(sizes.nms_boxes).astype(np.float32))

    def custom(boxes, scores):
        found = nms(boxes[None], scores[None], 0.7, sizes.nms_kept, convention=CONTINUOUS)
        return found.indices[0]

    def of_tensorflow(boxes, scores):
        kept = tf.image.non_max_suppression(tf.gather(boxes, [1, 0, 3, 2], axis=-1), scores, sizes.nms_kept, 0.7)
        return tf.pad(kept, [[0, sizes.nms_kept - tf.size(kept)]], constant_values=-1)

    own = tf.function(of_tensorflow).get_concrete_function(boxes, scores)
    sides = [side for side in _both(custom, boxes, scores) if side.name == NATIVE]
    sides.append(Side("tf.image.non_max_suppression", lambda: own(boxes, scores)))
    return Case(f"NMS, {sizes.nms_boxes:,} boxes to {sizes.nms_kept:,}", tuple(sides))


def _roi_align(rng, sizes: Sizes) -> list[Case]:
    height, width = sizes.roi_map
    stride = 4
    features = tf.constant(rng.normal(size=(1, height, width, sizes.roi_channels)).astype(np.float32))
    boxes = _random_boxes(rng, sizes.rois, (height * stride, width * stride), 16, 400)
    grad = tf.constant(rng.normal(size=(1, sizes.rois, 7, 7, sizes.roi_channels)).astype(np.float32))
    levels = tf.zeros([1, sizes.rois], tf.int32)
    title = f"{sizes.rois} RoIs, {sizes.roi_channels} channels, 7x7 on {height}x{width}"
    found = []
    for mode in ("max", "average"):

        def forward(features, boxes, mode=mode):
            return roi_align([features], boxes, levels, [stride], 7, mode=mode)

        def with_gradient(features, boxes, grad, forward=forward):
            with tf.GradientTape() as tape:
                tape.watch(features)
                pooled = forward(features, boxes)
            return pooled, tape.gradient(pooled, features, grad)

        sides = _both(forward, features, tf.constant(boxes[None]))
        both = _both(with_gradient, features, tf.constant(boxes[None]), grad)
        if mode == "average" and _has_torchvision():
            torch_forward, torch_both = _torchvision_roi_align(features.numpy(), boxes, grad.numpy(), 1 / stride)
            sides.append(Side(TORCHVISION, torch_forward))
            both.append(Side(TORCHVISION, torch_both))
        found.append(Case(f"RoIAlign ({mode}), {title}", tuple(sides)))
        found.append(Case(f"RoIAlign ({mode}) and gradient, {title}", tuple(both)))
    return found


def _torchvision_roi_align(features, boxes, grad, scale: float) -> tuple[Callable, Callable]:
    """torchvision's CPU operator on the same numbers, in its own order of axes; views in ours are free."""
    import torch
    from torchvision.ops import roi_align as torch_roi_align

    features = torch.tensor(features.transpose(0, 3, 1, 2).copy())
    rois = [torch.tensor(boxes)]
    grad = torch.tensor(grad[0].transpose(0, 3, 1, 2).copy())

    def forward():
        with torch.no_grad():
            pooled = torch_roi_align(features, rois, 7, scale, 2, False)
        return pooled.permute(0, 2, 3, 1)[None].numpy()

    def with_gradient():
        leaf = features.detach().requires_grad_(True)
        pooled = torch_roi_align(leaf, rois, 7, scale, 2, False)
        pooled.backward(grad)
        return pooled.detach().permute(0, 2, 3, 1)[None].numpy(), leaf.grad.permute(0, 2, 3, 1).numpy()

    return forward, with_gradient


def _deform_conv(rng, sizes: Sizes) -> list[Case]:
    """A unit's 3x3 convolution, version 2, products with the kernel included."""
    batch, channels, (height, width) = sizes.images, sizes.deform_channels, sizes.deform_map

    def drawn(*shape, scale=1.0):
        return tf.constant(scale * rng.normal(size=shape), tf.float32)

    kernel, upstream = drawn(3, 3, channels, channels, scale=0.02), drawn(batch, height, width, channels)
    inputs = [drawn(batch, height, width, channels), kernel, drawn(batch, height, width, 18)]
    inputs.append(tf.constant(rng.uniform(size=(batch, height, width, 9)), tf.float32))

    def with_gradient(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = deform_conv2d(*tensors)
        return outputs, *tape.gradient(outputs, tensors, upstream)

    sides, both = _both(deform_conv2d, *inputs), _both(with_gradient, *inputs)
    if _has_torchvision():
        torch_forward, torch_both = _torchvision_deform_conv([t.numpy() for t in inputs], upstream.numpy())
        sides.append(Side(TORCHVISION, torch_forward))
        both.append(Side(TORCHVISION, torch_both))
    title = f"{channels} channels, 3x3 on {batch} x {height}x{width}"
    return [Case(f"DeformConv, {title}", tuple(sides)), Case(f"DeformConv and gradients, {title}", tuple(both))]


def _torchvision_deform_conv(inputs, upstream) -> tuple[Callable, Callable]:
    """torchvision's CPU operator on the same numbers, in its own order of axes."""
    import torch
    from torchvision.ops import deform_conv2d as torch_deform_conv2d

    def to_nchw(array):
        return torch.tensor(array.transpose(0, 3, 1, 2).copy())

    def to_nhwc(tensor):
        return tensor.detach().permute(0, 2, 3, 1).numpy()

    features, kernel, offsets, mask = inputs
    tensors = [to_nchw(features), to_nchw(offsets), torch.tensor(kernel.transpose(3, 2, 0, 1).copy()), to_nchw(mask)]
    upstream = to_nchw(upstream)

    def convolve(features, offsets, kernel, mask):
        return torch_deform_conv2d(features, offsets, kernel, padding=1, mask=mask)

    def forward():
        with torch.no_grad():
            return to_nhwc(convolve(*tensors))

    def with_gradient():
        leaves = [t.detach().requires_grad_(True) for t in tensors]
        outputs = convolve(*leaves)
        outputs.backward(upstream)
        features, offsets, kernel, mask = (leaf.grad for leaf in leaves)
        kernel = kernel.permute(2, 3, 1, 0).numpy()
        return to_nhwc(outputs), to_nhwc(features), kernel, to_nhwc(offsets), to_nhwc(mask)

    return forward, with_gradient


def _levels(canvas: tuple[int, int]):
    """Stride, height and width of the five levels of a feature pyramid."""
    return [(stride, -(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in (4, 8, 16, 32, 64)]


def _match_boxes(rng, sizes: Sizes) -> Case:
    levels = _levels(sizes.match_image)
    anchors = tf.concat([grid_anchors(cell_anchors(s, [8], RATIOS), s, h, w) for s, h, w in levels], axis=0)
    gt = tf.constant(_random_boxes(rng, sizes.match_boxes, sizes.match_image, 8, 400)[None])

    def match(anchors, gt):
        return match_boxes(anchors[None], gt, tf.ones(tf.shape(gt)[:2], tf.bool))

    name = f"MatchBoxes, {anchors.shape[0]:,} anchors and {sizes.match_boxes} boxes"
    return Case(name, tuple(_both(match, anchors, gt)))


def _fit_image(rng, sizes: Sizes) -> list[Case]:
    """A decoded photo, mirrored, resized and padded."""
    photo, mirror = tf.constant(rng.integers(0, 256, (*sizes.photo, 3)), tf.uint8), tf.constant(True)
    height, width = (round(side * sizes.short_side / min(sizes.photo)) for side in sizes.photo)
    canvas = Canvas(sizes.short_side, width + width // 8)

    def fit(photo, mirror, rule):
        return resize_image(photo, sizes.short_side, 10 * sizes.short_side, rule, mirror, canvas)[0]

    title = f"{sizes.photo[0]}x{sizes.photo[1]} to {height}x{width} on {canvas.height}x{canvas.width}"
    return [
        Case(f"FitImage ({rule}), {title}", tuple(_both(functools.partial(fit, rule=rule), photo, mirror)))
        for rule in ("simpledet", "detectron2", "torchvision")
    ]


def _rpn_outputs(rng, sizes: Sizes, height: int, width: int, anchors: int) -> tuple[tf.Tensor, tf.Tensor]:
    scores = rng.uniform(size=(sizes.images, height, width, anchors)).astype(np.float32)
    deltas = rng.normal(0, 0.3, (sizes.images, height, width, 4 * anchors)).astype(np.float32)
    return tf.constant(scores), tf.constant(deltas)


def _proposals_fpn(rng, sizes: Sizes) -> Case:
    levels = _levels(sizes.canvas)
    outputs = [_rpn_outputs(rng, sizes, h, w, 3) for _, h, w in levels]
    strides = [s for s, _, _ in levels]
    return _proposals(
        f"GenerateProposals, 5 levels of {sizes.canvas[0]}x{sizes.canvas[1]}, {sizes.images} images",
        [scores for scores, _ in outputs],
        [deltas for _, deltas in outputs],
        [cell_anchors(s, [8], RATIOS) for s in strides],
        strides,
        sizes,
        sizes.fpn_candidates,
        "v3",
    )


def _proposals_c4(rng, sizes: Sizes) -> Case:
    height, width = -(-sizes.canvas[0] // 16), -(-sizes.canvas[1] // 16)
    scores, deltas = _rpn_outputs(rng, sizes, height, width, 15)
    name = f"GenerateProposals, C4 {height}x{width}x15, {sizes.images} images"
    cells = cell_anchors(16, [2, 4, 8, 16, 32], RATIOS)
    return _proposals(name, scores, deltas, cells, 16, sizes, sizes.c4_candidates, "v1")


def _proposals(name, scores, deltas, cells, strides, sizes: Sizes, candidates: int, variant: str) -> Case:
    info = tf.constant([[*sizes.image, 1.0]] * sizes.images, tf.float32)

    def propose(scores, deltas):
        return generate_proposals(scores, deltas, cells, strides, info, candidates, sizes.proposals, variant=variant)

    return Case(name, tuple(_both(propose, scores, deltas)))


if __name__ == "__main__":
    from tfdet.commands import run_module

    sys.exit(run_module(sys.modules[__name__], "benchmark_ops.py"))
