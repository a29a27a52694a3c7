"""The anchors of a configuration beside the objects of a data set, and those that would fit these better."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from rich.table import Table

from tfdet import arguments
from tfdet.config import Configuration
from tfdet.data.ground_truth import coco_ground_truth
from tfdet.data.manifest import Manifest
from tfdet.errors import UserError
from tfdet.files import replacing
from tfdet.targets import anchor_fit
from tfdet.targets.anchor_fit import Anchors, Fit

_ENOUGH = 0.01
"""A proposal that gains less in recall and mean is not worth leaving a row's anchors for."""

_MOST = 32
"""Scales, or ratios, of a cell."""


class Proposal(NamedTuple):
    """What `propose` finds.

    Attributes:
        num_objects: of the data set; crowds left out.
        present, present_fit: the configuration's anchors.
        proposed, proposed_fit: those that fit best, as many a cell.
        lines: the proposal as gin bindings.
        advice: sentences for a person.
    """

    num_objects: int
    present: Anchors
    present_fit: Fit
    proposed: Anchors
    proposed_fit: Fit
    lines: list[str]
    advice: list[str]


def propose(
    data_dir: str | os.PathLike,
    configuration: Configuration,
    num_scales: int | None = None,
    num_ratios: int | None = None,
) -> Proposal:
    """Measures the anchors of a configuration on a data set, and searches for better ones.

    Args:
        data_dir: data set folder.
        configuration: whose `AnchorGenerator` and `TrainInput` sides count.
        num_scales, num_ratios: of a cell; None: as many as the configuration has.

    Raises:
        UserError: the data set cannot be read or has no object, or a number is out of range.
    """
    present = _anchors_of(configuration)
    counts = [
        len(own) if given is None else min(arguments.whole_number(name, given, 1), _MOST)
        for name, given, own in (
            ("num_scales", num_scales, present.scales),
            ("num_ratios", num_ratios, present.ratios),
        )
    ]
    manifest = Manifest.load(data_dir)
    truth = coco_ground_truth(manifest, manifest.load_index())
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    kept = [annotation for annotation in truth["annotations"] if not annotation["iscrowd"]]
    if not kept:
        raise UserError(f"{data_dir} has no object to fit anchors to")
    side = configuration.value("TrainInput.short_side")
    objects = anchor_fit.objects_of(
        np.array([annotation["bbox"] for annotation in kept]),
        np.array([sizes[annotation["image_id"]] for annotation in kept]),
        side if isinstance(side, (tuple, list)) else (side,),
        configuration.value("TrainInput.long_side"),
    )
    proposed = anchor_fit.fit(objects, present.strides, *counts)
    fits = [anchor_fit.measure(objects, anchors) for anchors in (present, proposed)]
    lines = _lines(configuration, proposed)
    return Proposal(len(kept), present, fits[0], proposed, fits[1], lines, _advice(present, proposed, *fits))


def _anchors_of(configuration: Configuration) -> Anchors:
    strides, ratios = (tuple(configuration.value(f"AnchorGenerator.{name}")) for name in ("strides", "ratios"))
    sizes = configuration.value("AnchorGenerator.sizes")
    # Sizes of levels are not always one multiple of the strides: the first level's stand for all.
    scales = [size / strides[0] for size in sizes[0]] if sizes else configuration.value("AnchorGenerator.scales")
    return Anchors(strides, tuple(map(float, scales)), tuple(map(float, ratios)))


def _lines(configuration: Configuration, anchors: Anchors) -> list[str]:
    scales = f"AnchorGenerator.scales = {anchors.scales}"
    if configuration.value("AnchorGenerator.sizes"):
        sizes = tuple(tuple(round(scale * stride, 2) for scale in anchors.scales) for stride in anchors.strides)
        scales = f"AnchorGenerator.sizes = {sizes}"
    return [scales, f"AnchorGenerator.ratios = {anchors.ratios}"]


def _advice(present: Anchors, proposed: Anchors, now: Fit, then: Fit) -> list[str]:
    if then.recall - now.recall < _ENOUGH and then.mean - now.mean < 2 * _ENOUGH:
        return ["The present anchors fit: nothing is gained by others. The best that were found:"]
    lines = ["Anchors that fit better, for training from random weights or an ImageNet backbone:"]
    same = len(present.scales) * len(present.ratios) == len(proposed.scales) * len(proposed.ratios)
    if same:
        lines.insert(0, "Weights of a trained detector know its own anchors: keep those unless their recall is poor.")
    else:
        lines.insert(0, "A cell has another number of anchors: the RPN of a trained detector does not fit then.")
    return lines


def table(proposal: Proposal) -> Table:
    """The figures as a table for the console."""
    title = f"Anchors and the {proposal.num_objects:,} objects"
    shown = Table(title=title, title_justify="left")
    for column in ("", "scales (in strides)", "ratios", "mean IoU", "IoU 0.5", "0.7"):
        shown.add_column(column, justify="right" if column[:1] in "mI0" and column else "left", overflow="fold")
    rows = (
        ("present", proposal.present, proposal.present_fit),
        ("proposed", proposal.proposed, proposal.proposed_fit),
    )
    for name, anchors, fit in rows:
        shares = (f"{100 * share:.1f} %" for share in (fit.recall, fit.sure))
        shown.add_row(name, _brief(anchors.scales), _brief(anchors.ratios), f"{fit.mean:.3f}", *shares)
    return shown


def _brief(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def write(path: str | os.PathLike, proposal: Proposal, row: str) -> None:
    """Writes the proposal as a gin file, whole or not at all; `row` is what it was made for."""
    share = f"{100 * proposal.proposed_fit.recall:.1f} %"
    head = [
        f"# Anchors for the objects of one data set, as `tfdet anchors` proposes them. Give it after the row {row}.",
        f"# {share} of {proposal.num_objects} objects have an anchor with an IoU of 0.5 or more; "
        f"{100 * proposal.present_fit.recall:.1f} % by the row's own.",
        "",
    ]
    with replacing(arguments.path("output", path)) as temporary:
        temporary.write_text("\n".join([*head, *proposal.lines, ""]), encoding="utf-8")
