"""The kernels as functions of PyTorch tensors: those on a GPU go to the CUDA kernels, others to the CPU kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
METHODS = {"hard": 0, "linear": 1, "gaussian": 2}
VARIANTS = {"v1": 0, "v2": 1, "v3": 2, "symbolic": 3}
THREADS = 16

_long, _int, _float = ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class KernelError(RuntimeError):
    """A kernel refused its arguments (-1) or the CUDA runtime reported an error."""


class Kernels:
    """The library of `build.build`.

    Every tensor of a call lives on one device; results are on it too. Work on a GPU goes to PyTorch's current stream
    and is not waited for.
    """

    def __init__(self, library: Path):
        self._library = ctypes.CDLL(str(library))
        for name in ("roi_align", "deform_columns"):
            if hasattr(self._library, f"tfdet_{name}_grad_gpu_workspace"):
                getattr(self._library, f"tfdet_{name}_grad_gpu_workspace").restype = _long

    def roi_align(self, features, boxes, levels, strides, bins, mode="max", sampling_ratio=2, aligned=False):
        """RoIAlign of NHWC maps: (pooled [B, R, P, P, C] in their dtype, winner uint8 of the same shape or None)."""
        shape = self._roi_shape(features, boxes, strides, bins, mode, sampling_ratio, aligned)
        pooled = features[0].new_empty([*boxes.shape[:2], bins, bins, features[0].shape[-1]])
        winner = torch.empty_like(pooled, dtype=torch.uint8) if mode == "max" else None
        maps = _pointers(features)
        self._call("roi_align", pooled, *shape, maps, _at(boxes), _at(levels), _at(pooled), _at(winner))
        return pooled, winner

    def roi_align_grad(
        self, upstream, winner, features, boxes, levels, strides, bins, mode="max", sampling_ratio=2, aligned=False
    ):
        """The gradients of `features`, of which only the shapes are read."""
        shape = self._roi_shape(features, boxes, strides, bins, mode, sampling_ratio, aligned)
        gradients = [torch.empty_like(f) for f in features]
        arguments = [*shape, _at(upstream), _at(winner), _at(boxes), _at(levels), _pointers(gradients)]
        if upstream.is_cuda:
            size = self._library.tfdet_roi_align_grad_gpu_workspace(*shape)
            arguments.append(_at(upstream.new_empty([max(size, 1)], dtype=torch.uint8)))
        self._call("roi_align_grad", upstream, *arguments)
        return gradients

    def deform_columns(self, inputs, offsets, mask, options):
        """The columns [B, G, H' W', taps C / G] of NHWC inputs; `options`: see c_api/deform_columns.cc."""
        shape = self._deform_shape(inputs, options)
        taps, groups = options[0] * options[1], options[8]
        columns = inputs.new_empty(
            [len(inputs), groups, offsets.shape[1] * offsets.shape[2], taps * inputs.shape[3] // groups]
        )
        self._call("deform_columns", inputs, *shape, *map(_at, (inputs, offsets, mask, columns)))
        return (columns,)

    def deform_columns_grad(self, upstream, inputs, offsets, mask, options):
        """The gradients of inputs, offsets and mask (None without one)."""
        shape = self._deform_shape(inputs, options)
        gradients = [None if t is None else torch.empty_like(t) for t in (inputs, offsets, mask)]
        arguments = [*shape, *map(_at, (upstream, inputs, offsets, mask, *gradients))]
        if upstream.is_cuda:
            size = self._library.tfdet_deform_columns_grad_gpu_workspace(*shape)
            arguments.append(_at(upstream.new_empty([max(size, 1)], dtype=torch.uint8)))
        self._call("deform_columns_grad", upstream, *arguments)
        return gradients

    def batched_nms(
        self,
        boxes,
        scores,
        iou_threshold,
        max_detections,
        score_threshold=-3e38,
        inclusive=False,
        extra_pixel=1.0,
        method="hard",
        sigma=0.5,
    ):
        """boxes [B, N, 1 or C, 4], scores [B, N, C] -> (boxes, scores, classes, indices, num_valid)."""
        batch, count, classes = scores.shape
        rows = [batch, max_detections]
        outputs = (
            boxes.new_empty([*rows, 4]),
            boxes.new_empty(rows),
            boxes.new_empty(rows, dtype=torch.int32),
            boxes.new_empty(rows, dtype=torch.int32),
            boxes.new_empty([batch], dtype=torch.int32),
        )
        sizes = (_long(batch), _long(count), _long(classes), _long(boxes.shape[2]), _float(iou_threshold))
        options = (int(inclusive), _float(score_threshold), _float(extra_pixel), METHODS[method], _float(sigma))
        head = (*sizes, *options, _long(max_detections))
        arguments = [*head, _at(boxes), _at(scores), *map(_at, outputs)]
        if boxes.is_cuda:
            arguments.append(self._workspace("batched_nms", boxes, *head))
        self._call("batched_nms", boxes, *arguments)
        return outputs

    def proposals(
        self,
        levels,
        image_info,
        pre_nms_top_n,
        post_nms_top_n,
        iou_threshold=0.7,
        min_size=0.0,
        from_logits=False,
        area_range=None,
    ):
        """levels: (scores, deltas, cell_anchors, stride, variant) each -> (boxes [B, P, 4], scores [B, P])."""
        batch, anchors = image_info.shape[0], [level[2].shape[0] for level in levels]
        boxes, scores = image_info.new_empty([batch, post_nms_top_n, 4]), image_info.new_empty([batch, post_nms_top_n])
        sizes = [n for level, a in zip(levels, anchors) for n in (*level[0].shape[1:3], a)]
        head = (
            _long(batch),
            len(levels),
            *(_pointers([level[i] for level in levels]) for i in range(3)),
            (_long * len(sizes))(*sizes),
            (_float * len(levels))(*[level[3] for level in levels]),
            (_int * len(levels))(*[VARIANTS[level[4]] for level in levels]),
            int(from_logits),
            _long(pre_nms_top_n),
            _long(post_nms_top_n),
            _float(iou_threshold),
            _float(min_size),
        )
        arguments = [*head, _at(image_info), _at(area_range), _at(boxes), _at(scores)]
        if image_info.is_cuda:
            arguments.append(self._workspace("generate_proposals", boxes, *head))
        self._call("generate_proposals", boxes, *arguments)
        return boxes, scores

    def match_boxes(self, boxes, box_valid, gt_boxes, gt_valid, gt_crowd, extra_pixel=1.0, ties=True):
        """-> (iou, index, nearest_index, gt_iou, crowd_overlap); see kernels/match_boxes.h."""
        images, gts = gt_boxes.shape[:2]
        count = boxes.shape[1]
        floats, ints = gt_boxes.new_empty, lambda shape: gt_boxes.new_empty(shape, dtype=torch.int32)
        outputs = (
            floats([images, count]),
            ints([images, count]),
            ints([images, count]),
            floats([images, gts]),
            floats([images, count]),
        )
        sizes = map(_long, (images, count, gts, boxes.shape[0], box_valid.shape[0]))
        inputs = map(_at, (boxes, box_valid, gt_boxes, gt_valid, gt_crowd))
        self._call("match_boxes", boxes, *sizes, _float(extra_pixel), int(ties), *inputs, *map(_at, outputs))
        return outputs

    def _roi_shape(self, features, boxes, strides, bins, mode, sampling_ratio, aligned):
        count = len(features)
        return (
            TYPES[features[0].dtype],
            count,
            (_int * count)(*[f.shape[1] for f in features]),
            (_int * count)(*[f.shape[2] for f in features]),
            (_float * count)(*[1.0 / s for s in strides]),
            _long(boxes.shape[0]),
            _long(boxes.shape[1]),
            features[0].shape[3],
            bins,
            bins,
            0 if mode == "max" else 1,
            sampling_ratio,
            int(aligned),
        )

    def _deform_shape(self, inputs, options):
        batch, *sizes = inputs.shape
        return (TYPES[inputs.dtype], _long(batch), *sizes, (_int * 10)(*options))

    def _workspace(self, name, like, *arguments):
        size = ctypes.c_size_t()
        error = getattr(self._library, f"tfdet_{name}_gpu_workspace")(*arguments, ctypes.byref(size))
        if error:
            raise KernelError(f"tfdet_{name}_gpu_workspace: {error}")
        return _at(like.new_empty([max(size.value, 1)], dtype=torch.uint8))

    def _call(self, name, like, *arguments):
        if like.is_cuda:
            kind, last = "gpu", ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        else:
            kind, last = "cpu", THREADS
        function = getattr(self._library, f"tfdet_{name}_{kind}")
        if name == "match_boxes" and kind == "cpu":
            function.restype = None
        error = function(*arguments, last)
        if error:
            raise KernelError(f"tfdet_{name}_{kind}: {error}")


def _at(tensor):
    if tensor is None:
        return None
    if not tensor.is_contiguous():
        raise ValueError(f"expected a contiguous tensor. Received: strides {tensor.stride()}")
    return _Address(tensor)


def _pointers(tensors: Sequence[torch.Tensor]):
    array = (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])
    array.kept = list(tensors)
    return array


class _Address(ctypes.c_void_p):
    """A tensor's address that keeps the tensor: a workspace must outlive the call that it was made for.

    Memory that is freed afterwards is reused in the order of the stream, so a kernel still at work keeps its own.
    """

    def __init__(self, tensor: torch.Tensor):
        super().__init__(tensor.data_ptr())
        self.tensor = tensor
