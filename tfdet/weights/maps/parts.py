"""How the name map of a whole detector is put together: every part says which rules it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras

from tfdet.weights.maps.rules import Rule

PartRules = dict[type, Callable[[keras.layers.Layer, keras.Model], list[Rule]]]
"""By the class of a part (backbone, neck, RPN, box, mask or RetinaNet's head) its rules for the files of one program.

Called with the part and the detector that it is in, since some names depend on what stands around a part.
"""


def parts_of(detector: keras.Model) -> list[keras.layers.Layer]:
    """The layers that a detector is made of, in the order in which they run."""
    names = ("backbone", "neck", "rpn_head", "bbox_heads", "mask_head", "head")
    found = []
    for name in names:
        part = getattr(detector, name, None)
        found += part if isinstance(part, (list, tuple)) else [part] if part is not None else []
    return found


def compose(detector: keras.Model, table: PartRules) -> list[Rule]:
    """The rules of all parts of a detector; a part whose class, or base class, is not in the table has none."""
    return [
        rule
        for part in parts_of(detector)
        if (make := rules_for(part, table)) is not None
        for rule in make(part, detector)
    ]


def rules_for(part: keras.layers.Layer, table: PartRules) -> Callable[..., list[Rule]] | None:
    """The entry of a part's class or of its nearest base class; None where there is none."""
    return next((table[base] for base in type(part).__mro__ if base in table), None)


def named(layer: Callable[..., list[Rule]], names: Mapping[str, str | tuple]) -> Callable[..., list[Rule]]:
    """The entry of a part whose names depend on nothing around it.

    Args:
        layer: the rules of one layer: called with the file's name, ours and, where `names` has one, a layout step.
        names: by the path of a layer within the part the file's name, or that and the step.
    """

    def rules(part: keras.layers.Layer, detector: keras.Model) -> list[Rule]:
        pairs = [(own, (source,) if isinstance(source, str) else source) for own, source in names.items()]
        return [rule for own, (source, *step) in pairs for rule in layer(source, f"{part.name}/{own}", *step)]

    return rules


def both(*entries: Callable[..., list[Rule]]) -> Callable[..., list[Rule]]:
    """The entry of a part that has the rules of several."""

    def rules(part: keras.layers.Layer, detector: keras.Model) -> list[Rule]:
        return [rule for entry in entries for rule in entry(part, detector)]

    return rules


def place_in_cascade(head: keras.layers.Layer, detector: keras.Model) -> int | None:
    """Which box head of a cascade this is, from 0; None where it is the only one."""
    heads = detector.bbox_heads
    return next(i for i, other in enumerate(heads) if other is head) if len(heads) > 1 else None


def suffix_in_cascade(head: keras.layers.Layer, detector: keras.Model) -> str:
    """`_1st`, `_2nd`, ... of a box head in a cascade, empty for the only one."""
    return next(stage.name for stage in detector.stages if stage.head is head)


def pooled_cells(detector: keras.Model) -> int:
    """Side of the box heads' RoI features, in cells."""
    return detector.roi_extractor.output_size
