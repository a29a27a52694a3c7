"""The comparison of a golden folder of SimpleDet with what tfdet computes, in NumPy alone."""

from __future__ import annotations

import re

import numpy as np

from tools.golden.simpledet_folder import Golden
from tools.golden.simpledet_rows import Row
from tools.golden.verdict import (
    LEFT_OUT,
    Figure,
    MapError,
    Verdict,
    disagreements,
    known,
    missing,
    relative_error,
    scale_of,
    unusable,
)

TOLERANCE = 1e-4
"""Largest difference over a map's absolute maximum."""

_WINDOW = 8
"""So many places a near tie may have moved a row of a sorted list."""

_LISTS = [
    (r"proposal", r"proposal_score"),
    (r"get_top_proposal: reshape5",),
    (r"(custom\d+)", r"\1_score"),
    (r"proposal_concat", r"proposal_scores_concat"),
    (r"(proposal: box_nms0_output0(?:#\d+)?)",),
    (r"(.*)post_bbox_xyxy", r"\1post_score", r"\1post_cls"),
]
"""Sorted lists by name: arrays whose rows belong together."""

_STORED = re.compile(
    r"bn_data|pool\d|stage\d_unit\d+_(relu|plus)(_branch\d)?|P\d_(conv|subsampling)|rpn_(cls|bbox)_.*|proposal.*|"
    r"get_top_proposal: reshape5|custom\d+(_score)?|fpn_roi_assgin: where\d|roi_align.*|add_n\d|"
    r"bbox_(fc\d|cls_logit|cls_score|reg_delta).*|(cls|bbox)_pred(#\d)?"
)
"""Of all that the graph computes, which `meta.json` lists, what such a folder stores."""

_FIGURES = {
    "mean": lambda array: array.mean(dtype=np.float64),
    "std": lambda array: array.std(dtype=np.float64),
    "absmax": lambda array: np.abs(array).max(),
}


def input_findings(golden: Golden, row: Row) -> list[str]:
    """What keeps tfdet from computing anything: inputs and RoIs that are missing, or no numbers."""
    wanted = ("data", "im_info", "image_rgb_uint8")
    findings = missing(set(wanted), golden.inputs, "inputs.npz") + missing(set(row.reads), golden.outputs, _FILE)
    findings += unusable(golden.inputs, "inputs.npz")
    findings += unusable({name: golden.outputs[name] for name in row.reads if name in golden.outputs}, _FILE)
    return findings


def compare(golden: Golden, row: Row, computed: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> Verdict:
    """The verdict on all that a folder stores, given our counterparts under its names and in its layout.

    A result of the graph, `HEAD<i>:<name>`, is compared with ours of that number, whatever its name.
    """
    outputs, reasons, maps = golden.outputs, {}, []
    own = {name: _counterpart(name, computed) for name in outputs}
    in_order, scores = _in_order(outputs, own, row)
    # Sorted scores are the same in place, whichever of two near ties comes first.
    in_place = own | {name: array for name, array in in_order.items() if name not in scores}
    own |= in_order
    for name, reference in outputs.items():
        if own[name] is None:
            reasons[name] = "tfdet computes nothing of this name"
            continue
        error = max(relative_error(_shaped(side[name], reference), reference) for side in (own, in_place))
        maps.append(MapError(name, reference.shape, error, tolerance))
    findings = unusable(outputs, _FILE) + _missing_results(golden, row)
    listed = golden.meta.get("outputs")
    if isinstance(listed, dict):
        wanted = {name for name in computed if name in listed and _STORED.fullmatch(name)}
        reasons |= dict.fromkeys(sorted(golden.left_out), LEFT_OUT)
        findings += missing(wanted - golden.left_out, outputs, _FILE) + _meta_findings(outputs, listed)
    return Verdict(maps, [], [], findings, reasons)


_FILE = "outputs_core.npz"


def _shaped(own: np.ndarray, reference: np.ndarray) -> np.ndarray | None:
    return own.reshape(reference.shape) if own.size == reference.size else None


def _counterpart(name: str, computed: dict[str, np.ndarray]) -> np.ndarray | None:
    if name in computed:
        return computed[name]
    return computed.get(name.partition(":")[0]) if re.match(r"HEAD\d+:", name) else None


def _missing_results(golden: Golden, row: Row) -> list[str]:
    """Findings about results of the graph that are not stored."""
    heads, findings = golden.meta.get("heads"), []
    names = {name.partition(":")[0]: name.partition(":")[2] for name in golden.outputs if name.startswith("HEAD")}
    if heads is not None and (not isinstance(heads, list) or len(heads) != row.results):
        findings.append(f"meta.json: heads is {heads!r}, but such a graph has {row.results} results")
        heads = None
    for number in range(row.results):
        name = names.get(f"HEAD{number}")
        if name is None:
            findings.append(f"{_FILE}: result {number} of the graph, HEAD{number}, is missing")
        elif heads is not None and heads[number] != name:
            findings.append(f"{_FILE}: HEAD{number} is {name}, by meta.json {heads[number]}")
    return findings


def _meta_findings(outputs: dict[str, np.ndarray], listed: dict) -> list[str]:
    """Findings about arrays that are not what `meta.json` says of them."""
    findings = [f"{_FILE}: {name} is not among the outputs that meta.json lists" for name in outputs.keys() - listed]
    for name, array in outputs.items():
        found: dict = {"shape": list(array.shape)}
        if array.size:
            found |= {figure: Figure(float(of(array)), 1e-4 * scale_of(array)) for figure, of in _FIGURES.items()}
        said = listed.get(name)
        findings += disagreements(known(said, found) if isinstance(said, dict) else {}, found, name)
    return findings


def _in_order(outputs: dict[str, np.ndarray], own: dict, row: Row) -> tuple[dict[str, np.ndarray], set[str]]:
    """Our rows of sorted lists in the stored order: near ties may have swapped places, with all that belongs to them.

    Returns: the arrays in that order, and the names of those that the lists are sorted by.
    """
    result, scores, lists = {}, set(), list(_LISTS)
    if row.results > 5:  # detections
        results = (next((name for name in outputs if name.startswith(f"HEAD{n}:")), None) for n in (4, 3, 5))
        lists.append(tuple(re.escape(name) for name in results if name))
    for first, *rest in (entry for entry in lists if entry):
        for name in outputs:
            match = re.fullmatch(first, name)
            if match is None:
                continue
            names = [name, *(re.sub(r"\\1", lambda _, m=match: m[1], other).replace("\\", "") for other in rest)]
            together = [n for n in names if n in outputs and own.get(n) is not None]
            sides = [[_rows(side[n], outputs[name]) for n in together] for side in (outputs, own)]
            if together and all(rows is not None for side in sides for rows in side):
                ordered = _as_stored(*sides)
                result |= {n: rows.reshape(outputs[n].shape) for n, rows in zip(together, ordered, strict=True)}
                scores.update(names[1:2])
    return result, scores


def _rows(array: np.ndarray, like: np.ndarray) -> np.ndarray | None:
    """An array as [B, K, columns], with B and K of `like` [B, K, C]; None where it cannot be."""
    count = like.shape[0] * like.shape[1] if like.ndim == 3 else 0
    if not count or not array.size or array.size % count or not np.isfinite(array).all():
        return None
    return array.astype(np.float64).reshape(*like.shape[:2], -1)


def _as_stored(stored: list[np.ndarray], own: list[np.ndarray]) -> list[np.ndarray]:
    """Each row gets the nearest of ours that is not taken yet and not further away than `_WINDOW` places."""
    if [a.shape for a in stored] != [a.shape for a in own]:
        return own
    scales = [scale_of(array) for array in stored]
    theirs, ours = (
        np.concatenate([array / scale for array, scale in zip(side, scales, strict=True)], axis=-1)
        for side in (stored, own)
    )
    order = np.zeros(theirs.shape[:2], np.int64)
    for batch in range(len(theirs)):
        left = list(range(theirs.shape[1]))
        for place, row in enumerate(theirs[batch]):
            near = [i for i in left if abs(i - place) <= _WINDOW] or left[:1]
            best = near[int(np.abs(ours[batch, near] - row).max(axis=1).argmin())]
            left.remove(best)
            order[batch, place] = best
    return [np.take_along_axis(array, order[..., None], axis=1) for array in own]
