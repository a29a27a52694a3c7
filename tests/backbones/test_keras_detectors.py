"""Detectors on networks of keras.applications: a step of training, detection, export, runs that are resumed."""

import h5py
import numpy as np
import pytest
import tensorflow as tf

import tfdet
from tests.detectors.small import random_batch, small_heads
from tfdet import weights
from tfdet.backbones import KerasBackbone
from tfdet.backbones.keras_models import MODELS
from tfdet.commands import main
from tfdet.training.optimizer import MomentumSGD
from tfdet.training.precision import LossScale
from tfdet.training.step import TrainStep
from tfdet.training.trainer import Trainer
from tfdet.training.update import make_parts
from tfdet.training.variables import moving_statistics, select_trained

SLOW = [
    "MobileNetV2", "MobileNetV3Large", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny", "ResNet50", "ResNet50V2",
    "DenseNet121",
]  # fmt: skip
ROW = """
include 'families/small_fpn.gin'
include 'schedules/small.gin'
include 'overlays/keras.gin'

KerasBackbone.model = 'MobileNetV3Small'
FPN.channels = 8
RpnHead.channels = 8
MlpBboxHead.channels = 16
ProposalGenerator.pre_nms_top_n = (100, 60)
ProposalGenerator.post_nms_top_n = (50, 30)
TrainInput.short_side = 64
TrainInput.long_side = 80
TrainInput.images_per_replica = 2
EvalInput.short_side = 64
EvalInput.long_side = 80
PostProcess.score_threshold = 0.001
Schedule.decay_steps = (1000,)
Trainer.steps = 2
"""


@pytest.mark.parametrize("kind", ["fpn", "retina"])
@pytest.mark.parametrize("name", ["MobileNetV3Small", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_every_weight_learns_and_boxes_come_out(name, kind):
    detector = small_heads(KerasBackbone(name, norm="local"), kind)
    batch = random_batch([2], slots=4, size=(64, 64))
    trained = select_trained(detector, ("backbone/conv0", "backbone/stage1"))
    assert all(not v.path.startswith(("backbone/conv0", "backbone/stage1")) for v in trained)
    with tf.GradientTape() as tape:
        losses = detector.losses(batch, tf.constant([0, 1]))
        total = tf.add_n(list(losses.values()))
    gradients = tape.gradient(total, [variable.value for variable in trained])
    assert np.isfinite(total) and all(np.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    optimizer = MomentumSGD(trained, LossScale(None))
    assert len(optimizer.dense(gradients)) == len(trained)  # refuses one that no loss depends on
    decayed = {v.path for v, is_decayed in zip(trained, optimizer.is_decayed, strict=True) if is_decayed}
    assert all(path.endswith(("kernel", "gamma")) for path in decayed)
    assert len(moving_statistics(detector)) == 2 * len([v for v in detector.weights if v.path.endswith("moving_mean")])
    found = detector.detect(batch.images, batch.image_info)
    assert np.isfinite(found.boxes).all() and found.boxes.shape == (1, 10, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data/train`, `row.gin`, and in `models` what stands for Keras' file."""
    folder = tmp_path_factory.mktemp("keras")
    assert main(["make_shapes", f"--output={folder}/data", "--train_images=8", "--val_images=2", "--size=64x80"]) == 0
    (folder / "row.gin").write_text(ROW)
    (folder / "models").mkdir()
    source, rng = KerasBackbone("MobileNetV3Small").source(), np.random.default_rng(0)
    for weight in source.model.weights:
        if weight.path.endswith("kernel"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    source.model.save(folder / "models" / MODELS["MobileNetV3Small"].file)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda fname, *_, **__: str(folder / "models" / fname))
    return folder


@pytest.mark.slow
def test_a_row_is_trained_from_imagenet_exported_and_loaded(here):
    model = tfdet.build("row.gin")
    tfdet.train(model, "data/train", model_dir="run", quiet=True, bindings={"Trainer.frozen": ("backbone/conv0",)})
    with h5py.File(here / "models" / MODELS["MobileNetV3Small"].file) as file:
        published = file["model_weights/conv/conv/kernel"][()]
    values = {weight.path: weight.numpy() for weight in model.detector.weights}
    assert np.array_equal(values["backbone/conv0/conv/kernel"], published)  # loaded, and frozen
    loaded = tfdet.load("run")
    assert all(np.array_equal(weight.numpy(), values[weight.path]) for weight in loaded.detector.weights)
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    (found,) = loaded.predict(image, score_threshold=0.0)
    loaded.export("exported", verify=False)
    (again,) = tfdet.load("exported").predict(image, score_threshold=0.0)
    assert len(found.boxes) == len(again.boxes) > 0
    np.testing.assert_allclose(found.scores, again.scores, atol=1e-4)
    loaded.save("weights.safetensors")
    assert "tfdet" in str(weights.load(small_like(loaded), "weights.safetensors").source)


def small_like(model):
    return tfdet.build("row.gin", num_classes=model.num_classes).detector


@pytest.mark.slow
def test_a_run_with_stochastic_depth_is_resumed_bit_for_bit(here):
    bindings = {
        "KerasBackbone.model": "EfficientNetV2B0", "KerasBackbone.drop_path": 0.3, "KerasBackbone.recompute": (3,),
        "Trainer.init_weights": None, "Trainer.steps": 4, "Trainer.checkpoint_every": 2,
    }  # fmt: skip
    values = []
    for name, lengths in (("straight", [4]), ("parts", [2, 4])):
        for steps in lengths:
            model = tfdet.build("row.gin", bindings=bindings | {"Trainer.steps": steps})
            tfdet.train(model, "data/train", model_dir=name, quiet=True)
        values.append({weight.path: weight.numpy() for weight in model.detector.weights})
    assert all(np.array_equal(values[0][path], values[1][path]) for path in values[0])


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["local", "sync", "frozen"])
def test_two_replicas_train_such_a_backbone(mirrored, norm):
    strategy = mirrored(2)
    with strategy.scope():
        detector = small_heads(KerasBackbone("MobileNetV3Small", norm=norm), "retina")
        parts = make_parts(strategy, detector, Trainer(steps=1))
    step = TrainStep(strategy, detector, parts.optimizer, lambda step: tf.constant(0.01), parts.state, 0)
    batches = [random_batch([2], slots=4, size=(64, 64), seed=seed) for seed in range(2)]
    spread = tf.nest.map_structure(
        lambda *values: strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group]
        ),
        *batches,
    )
    metrics = tf.function(lambda: step._all_replicas(spread), autograph=False)()
    assert np.isfinite(metrics["total"]) and bool(metrics["finite"])
    moving = next(w for w in detector.weights if w.path == "backbone/stage4/expanded_conv_8_expand_bn/moving_mean")
    copies = [copy.numpy() for copy in strategy.experimental_local_results(moving.value)]
    assert np.any(copies[0]) == (norm != "frozen")
    if norm == "sync":
        assert np.array_equal(*copies)
