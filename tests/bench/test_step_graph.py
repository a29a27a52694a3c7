"""The graph of a training step: shapes that the canvas alone decides, nothing that the host is asked for."""

import pytest

from tests.detectors.small import small_detector
from tfdet.bench.op_times import part_of, profiled
from tfdet.bench.training import synthetic_batches
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer
from tfdet.training.update import make_parts, make_step

# A GPU tells the host how long their results are, or the host computes them.
ASKS_THE_HOST = {
    "Assert", "EagerPyFunc", "NonMaxSuppressionV3", "NonMaxSuppressionV5", "Print", "PrintV2", "PyFunc",
    "PyFuncStateless", "Unique", "UniqueV2", "Where", "While", "StatelessWhile",
}  # fmt: skip


@pytest.mark.parametrize("family", ["fpn", "retina"])
def test_shapes_are_the_canvas_and_the_host_is_not_asked(mirrored, family):
    strategy, trainer = mirrored(1), Trainer()
    with strategy.scope():
        detector = small_detector(family, norm="frozen")
    parts = make_parts(strategy, detector, trainer)
    step = make_step(strategy, detector, parts, Schedule(base_lr=0.01).for_batch(2, 4), trainer)
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: synthetic_batches(2, 64, 96, 3)))
    train = step.compile(iterator.element_spec)
    operations = train.get_concrete_function().graph.get_operations()
    assert not {op.type for op in operations} & ASKS_THE_HOST
    # Whether a step is finite decides on its update, after everything else.
    assert {part_of(op.name) for op in operations if op.type in ("If", "StatelessIf")} == {"update"}
    assert not [op.name for op in operations for out in op.outputs if out.shape.rank and None in out.shape.as_list()]

    train(next(iterator))
    ran = profiled(lambda: float(train(next(iterator))["total"]))
    # The grid of anchors and all else that hangs on shapes alone was computed when the step was compiled.
    assert "Range" in {op.type for op in operations} and "Range" not in {kind for _, kind in ran}
    layers = {"backbone", "neck", "rpn_head"} if family == "fpn" else {"backbone", "neck", "retina_head"}
    scopes = {"normalize", "proposals", "rpn_targets", "roi_align", "roi_targets", "bbox_head", "box_losses"}
    assert {part_of(name) for name, _ in ran} >= layers | {"update"} | (scopes if family == "fpn" else {"targets"})
