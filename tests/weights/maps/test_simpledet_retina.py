"""RetinaNet's zoo rows: as many tensors as SimpleDet's, the same ones frozen and decayed, each with its name."""

import re

import pytest

from tfdet import config
from tfdet.config import register_all
from tfdet.weights.maps import simpledet
from tfdet.weights.maps.rules import source_of


def simpledets_names(depth):
    """Names of the parameters that a checkpoint of the row holds before folding, by SimpleDet's builders."""
    names = {"arg:conv0_weight"}
    norms = ["bn0"]
    for stage, units in enumerate({50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth], 1):
        for unit in range(1, units + 1):
            owner = f"stage{stage}_unit{unit}"
            names |= {f"arg:{owner}_conv{c}_weight" for c in (1, 2, 3)}
            norms += [f"{owner}_bn{c}" for c in (1, 2, 3)]
            if unit == 1:
                names.add(f"arg:{owner}_sc_weight")
                norms.append(f"{owner}_sc_bn")
    convs = [f"P{i}_{kind}" for i in (3, 4, 5) for kind in ("lateral", "conv")] + ["P6_conv", "P7_conv"]
    convs += [f"{tower}_conv{i}" for tower in ("cls", "bbox") for i in (1, 2, 3, 4)] + ["cls_pred", "bbox_pred"]
    names |= {f"arg:{conv}_{kind}" for conv in convs for kind in ("weight", "bias")}
    names |= {f"arg:{norm}_{kind}" for norm in norms for kind in ("gamma", "beta")}
    return names | {f"aux:{norm}_moving_{kind}" for norm in norms for kind in ("mean", "var")}


@pytest.mark.parametrize(("depth", "arguments", "statistics"), [(50, 195, 106), (101, 348, 208)])
def test_tensors_frozen_and_decayed_ones_are_simpledets(depth, arguments, statistics):
    register_all()
    # The width does not matter to names, and a full ResNet-101 takes a minute to build.
    configuration = config.parse([f"retina_r{depth}v1_fpn.gin"], ["WIDTH = 0.125"])
    detector = configuration.build("build_detector", num_classes=80)
    rules = simpledet.name_map(detector).rules
    sources = {w.path: source_of(w.path, rules)[0] for w in detector.weights}
    assert set(sources.values()) == simpledets_names(depth)
    assert len(sources) == len(set(sources.values()))
    assert sum(name.startswith("arg:") for name in sources.values()) == arguments
    assert sum(name.startswith("aux:") for name in sources.values()) == statistics

    from tfdet.training.optimizer import MomentumSGD
    from tfdet.training.trainer import Trainer
    from tfdet.training.variables import select_trained

    trainer = configuration.build(Trainer)
    trained = select_trained(detector, trainer.frozen)
    # SimpleDet freezes an argument when one of these is anywhere in its name.
    expected = {n for n in simpledets_names(depth) if n[:4] == "arg:" and not re.search("conv0|stage1|gamma|beta", n)}
    assert {sources[v.path] for v in trained} == expected
    assert len(expected) == arguments - statistics - 11  # conv0 and the ten convolutions of stage 1
    optimizer = MomentumSGD(trained, trainer.make_loss_scale(), decayed=trainer.decayed, clip=trainer.clip)
    decayed = {sources[v.path] for v, d in zip(trained, optimizer.is_decayed, strict=True) if d}
    assert decayed == {name for name in expected if name.endswith("_weight")}


@pytest.mark.parametrize("depth", [50, 101])
def test_the_recipe_is_the_zoos(depth):
    register_all()
    configuration = config.parse([f"retina_r{depth}v1_fpn.gin"], [])
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    trainer, schedule = configuration.build(Trainer), configuration.build(Schedule)
    assert (trainer.clip, trainer.momentum, trainer.weight_decay, trainer.epochs) == (None, 0.9, 1e-4, 6.0)
    assert trainer.init_weights == f"resnet-v1-{depth}"
    rate = schedule.for_batch(16)
    for update, expected in [(250, (0.01 / 3 + 0.01) / 2), (500, 0.01), (60000, 0.01), (60001, 1e-3), (80001, 1e-4)]:
        assert float(rate(update)) == pytest.approx(expected, rel=1e-5)
    assert float(schedule.for_batch(8)(40000)) == pytest.approx(0.005)
