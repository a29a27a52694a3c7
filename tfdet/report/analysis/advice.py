"""The first screen of a report: what the AP is, what costs most of it, and what to do about it, in words."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from tfdet.report.analysis.summary import Analysis
from tfdet.report.analysis.tide import KINDS

WORTH = 1.0
"""Points of AP50 from which on a kind of error is worth a word."""

_MOST = 3  # kinds of errors that are spoken of
_MANY = 0.5  # a share that is called "most"
_OVERDUE = 1.25  # of a class: its share of the missed objects by its share of all
_FEW_IMAGES = 50
_FEW_OBJECTS = 20  # of a class: its AP is a matter of chance
_RISE = 0.01  # AP between the last two evaluations from which on more steps are worth trying
_OVERFIT = 0.15  # AP that training data have above the others
_BAD_CALIBRATION = 0.1


class Advice(NamedTuple):
    """One sentence about what is, and one about what to do."""

    what: str
    do: str = ""


@dataclasses.dataclass(frozen=True)
class Context:
    """What is known of the run beside its detections; all may be missing."""

    train_counts: list[int] | None = None  # objects to train on by class
    evaluations: dict[int, float] | None = None  # AP by step, 0..1
    train_ap: float | None = None  # on training data, at the last evaluation, 0..1


def headline(analysis: Analysis, what: str = "boxes") -> str:
    """The AP in words. Args: what, "boxes" or "masks"."""
    ap, ap50 = analysis.precision.ap(), analysis.precision.ap(iou=0)
    if not len(analysis.scene.found):
        return f"Nothing was found: there is not one detection on {_count(len(analysis.scene.image_ids), 'image')}."
    best = analysis.together
    line = f"AP {100 * ap:.1f} (AP50 {100 * ap50:.1f}) for {what}, on {_count(len(analysis.scene.image_ids), 'image')}."
    if best.best is not None:
        line += (
            f" Shown from score {best.best:.2f} on, {100 * best.best_precision:.0f} of 100 detections are right, and "
            f"{100 * best.best_recall:.0f} of 100 objects are found."
        )
    return line


def advise(analysis: Analysis, context: Context) -> list[Advice]:
    """What costs most, the most expensive first, then what else a person should know."""
    advices: list[Advice] = []
    if len(analysis.scene.found):
        costs = sorted(analysis.tide.costs.items(), key=lambda item: -item[1])
        for name, cost in costs[:_MOST]:
            if cost >= WORTH:
                advices.append(_OF_KIND[name](analysis, context, cost))
        if not advices:
            advices.append(Advice("No kind of error costs a point of AP50 by itself.", _tighter(analysis)))
    else:
        advices.append(
            Advice(
                "A detector finds nothing where it was hardly trained, or where its classes or image sizes are not "
                "those of the data.",
                "Look at the training curves: the losses should fall. Lower PostProcess.score_threshold, train longer "
                "(--epochs), or start from published weights (--init_weights).",
            )
        )
    return [*advices, *_of_the_run(context), *_of_the_data(analysis), *_of_the_scores(analysis)]


def _missed(analysis: Analysis, context: Context, cost: float) -> Advice:
    sizes, classes = analysis.missed_by_size(), analysis.missed_by_class()
    total = max(int(classes.sum()), 1)
    line = f"Missed objects cost {cost:.1f} points of AP50: {_count(total, 'object')} without any detection near"
    worst = int(np.argmax(classes))
    name = analysis.scene.classes[worst]
    if sizes["small"] >= _MANY * total:
        return Advice(
            f"{line}; most are small (below 32 x 32 pixels).",
            "Raise --image_size, so that they are larger for the detector; predict large photos in tiles (--tile).",
        )
    share = analysis.curves[worst].num_objects / max(analysis.num_objects, 1)
    if classes[worst] >= max(_MANY, _OVERDUE * share) * total:
        known = "" if context.train_counts is None else f", which has {context.train_counts[worst]:,} to train on"
        return Advice(f"{line}; most are {name}{known}.", f"Label more {name}, and train longer (--epochs).")
    return Advice(
        f"{line}.",
        "Look at the worst images: are these objects labelled in the training data too? Train longer (--epochs); lower "
        "PostProcess.score_threshold where it is above 0.05.",
    )


def _classification(analysis: Analysis, context: Context, cost: float) -> Advice:
    line = f"Wrong classes cost {cost:.1f} points of AP50"
    confused = analysis.confused(1)
    if not confused:
        return Advice(f"{line}, at low scores.", "Train longer (--epochs), or label more of the rarer classes.")
    true, found, times = confused[0]
    names = analysis.scene.classes
    return Advice(
        f"{line}; {names[true]} is taken for {names[found]} most often ({times} times).",
        f"Check the labels of {names[true]} and {names[found]}; label more of the rarer one, or make them one class if "
        "the difference is not needed.",
    )


def _localisation(analysis: Analysis, context: Context, cost: float) -> Advice:
    return Advice(
        f"Boxes in the wrong place cost {cost:.1f} points of AP50: they overlap their object by less than half.",
        "Check that labels are tight and drawn by one rule; train longer (--epochs), with anchors that fit "
        "(`tfdet anchors`) or a larger --image_size.",
    )


def _both(analysis: Analysis, context: Context, cost: float) -> Advice:
    return Advice(
        f"Detections of the wrong class in the wrong place cost {cost:.1f} points of AP50.",
        "The detector is unsure of what it sees: train longer (--epochs), on more images.",
    )


def _duplicate(analysis: Analysis, context: Context, cost: float) -> Advice:
    return Advice(
        f"Second detections of one object cost {cost:.1f} points of AP50.",
        "Lower the overlap from which on the weaker of two is dropped (iou_threshold of the post-processing); look "
        "first whether objects stand so close that both are right.",
    )


def _background(analysis: Analysis, context: Context, cost: float) -> Advice:
    return Advice(
        f"Detections where nothing is labelled cost {cost:.1f} points of AP50.",
        "Look at the worst images: are these objects that nobody labelled? Label them. Otherwise add photos that show "
        "such things without an object.",
    )


_OF_KIND = dict(zip(KINDS, (_classification, _localisation, _both, _duplicate, _background, _missed), strict=True))


def _tighter(analysis: Analysis) -> str:
    if analysis.precision.ap(iou=0) - analysis.precision.ap(iou=5) > 0.2:
        return "Boxes could be tighter: AP75 is far below AP50. A row with a cascade places them better."
    return ""


def _of_the_run(context: Context) -> list[Advice]:
    advices = []
    steps = sorted(context.evaluations or {})
    if len(steps) > 1:
        last, before = (context.evaluations[step] for step in (steps[-1], steps[-2]))
        best = max(context.evaluations.values())
        if last - before >= _RISE and last == best:
            advices.append(
                Advice(
                    f"AP still rose at the end of training: by {100 * (last - before):.1f} points since step "
                    f"{steps[-2]:,}.",
                    "Train longer (--epochs).",
                )
            )
        if context.train_ap is not None and context.train_ap - last >= _OVERFIT:
            advices.append(
                Advice(
                    f"AP is {100 * context.train_ap:.1f} on the training data and {100 * last:.1f} on the others: the "
                    "detector learned its photos by heart.",
                    "More photos, augmentation, a moving average of the weights (Trainer.ema_decay), or fewer epochs.",
                )
            )
    return advices


def _of_the_data(analysis: Analysis) -> list[Advice]:
    advices = []
    count = len(analysis.scene.image_ids)
    if count < _FEW_IMAGES:
        advices.append(
            Advice(f"These figures are of {_count(count, 'image')}: another choice of images would give others.")
        )
    few = [
        analysis.scene.classes[label]
        for label, curve in enumerate(analysis.curves)
        if 0 < curve.num_objects < _FEW_OBJECTS
    ]
    if few and len(few) < len(analysis.scene.classes):
        advices.append(Advice(f"{_listed(few)}: fewer than {_FEW_OBJECTS} objects each, so their AP says little."))
    none = [analysis.scene.classes[label] for label, curve in enumerate(analysis.curves) if not curve.num_objects]
    if none:
        advices.append(
            Advice(f"{_listed(none)}: no object in these data, so nothing is known of how well they are found.")
        )
    return advices


def _of_the_scores(analysis: Analysis) -> list[Advice]:
    found = analysis.calibration
    if found.error is None or found.error < _BAD_CALIBRATION:
        return []
    has = (found.counts > 0) & (np.arange(len(found.counts)) >= 3)
    weight = found.counts[has]
    gap = float(np.sum(weight * (found.scores[has] - found.precision[has])) / max(weight.sum(), 1))
    how = "too high" if gap > 0 else "too low"
    return [
        Advice(
            f"Scores are {how}: in the mean they are {100 * found.error:.0f} points off the share that is right.",
            "Choose thresholds by the table of classes (--thresholds=report), and not by what a score seems to say.",
        )
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
