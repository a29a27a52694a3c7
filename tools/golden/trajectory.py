"""Trains a detector side by side with a stored run of Detectron2 or torchvision, from its weights on its batches.

A folder holds the run's first weights (`init.*.xz`), `meta.json` and `trajectory.npz`: the learning rate and the losses
of every step, the first gradient, and how far the weights have come after some steps. `data.npz` beside the folder has
the images, objects and order of the batches. The detector, update and schedule are those of the row's gin files, with
the widths of the weights and the lengths of the run.
"""

from __future__ import annotations

import json
import lzma
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdet import config
from tfdet.config import Configuration
from tfdet.detectors import Detector
from tfdet.errors import UserError
from tfdet.structures import Batch
from tfdet.training.update import make_parts, make_step
from tfdet.weights import read_weights
from tfdet.weights.maps.rules import source_of
from tools.golden import torch_folder
from tools.golden.torch_folder import TorchGolden
from tools.golden.torch_training import in_file_layout, our_loss

_EPSILON = 1e-5  # of the frozen BN of both programs where no published weights are loaded
_DECIDING_STEPS = 20  # afterwards NMS, matching and ReLU amplify rounding


class Trajectory(NamedTuple):
    """A stored run, read."""

    golden: TorchGolden  # its first weights; `train` has a ground truth of the size of the batches'
    stored: dict[str, np.ndarray]  # trajectory.npz
    data: dict[str, np.ndarray]  # data.npz
    meta: dict


class Difference(NamedTuple):
    """How far ours is from the stored run in one thing, and how far it may be."""

    name: str
    error: float
    limit: float
    decides: bool = True  # what only shows gross errors does not


def read(folder: str | Path) -> Trajectory:
    """Reads a folder; `UserError` names what is missing."""
    folder = Path(folder)
    try:
        meta = json.loads((folder / "meta.json").read_text())
        stored, data = (dict(np.load(path)) for path in (folder / "trajectory.npz", folder.parent / "data.npz"))
        (packed,) = folder.glob("init.*.xz")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not the folder of a stored run of training ({error})") from error
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = Path(temporary) / packed.stem
        unpacked.write_bytes(lzma.decompress(packed.read_bytes()))
        arrays = read_weights(unpacked)
    on_first = re.search(r"STRIDE_IN_1X1: (\w+)", _text(folder / "config.yaml"))
    stride_on = "1x1" if on_first and on_first[1] == "true" else "3x3"
    described = {
        "model": meta["family"],
        "weights": packed.name,
        "conventions": {"frozen_bn_eps": _EPSILON, "stride_on": stride_on},
        "config_overrides_train": meta.get("config_overrides", {}),
    }
    golden = torch_folder.make(folder, described, arrays, {}, {"gt_classes": data["classes"][0]})
    return Trajectory(golden, stored, data, meta)


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def configure(run: Trajectory) -> Configuration:
    """The row's configuration with the widths of the weights and the numbers of the run."""
    rate = run.stored["lr"]
    base = float(rate.max())
    warmup = int(np.flatnonzero(rate >= base * (1 - 1e-9))[0])
    bound = {
        "Schedule.base_lr": base,
        "Schedule.reference_batch": None,
        "Schedule.warmup_steps": warmup,
        "Schedule.decay_steps": tuple(int(step) for step in np.flatnonzero(np.diff(rate) < 0) + 1),
        "Trainer.steps": len(rate),
        "Trainer.replicas": 1,
    }
    golden = run.golden
    return config.parse(
        [f"{golden.program}/{golden.family}.gin"],
        [*torch_folder.overrides(golden), *(f"{name} = {value!r}" for name, value in bound.items())],
    )


def batches(run: Trajectory, detector: Detector):
    """The batches of all steps. Images end where the largest of their batch does, as the program was given them."""
    data = run.data
    shift = int(detector.num_classes > 80)  # torchvision's RetinaNet counts the background among its classes
    for pair in data["steps"]:
        height, width = data["hw"][pair].max(axis=0)
        edges, owners = zip(*(_edges(data, image) for image in pair), strict=True)
        longest = max(len(rows) for rows in edges)
        classes = data["classes"][pair].astype(np.int32)
        yield Batch(
            images=tf.constant(data["images"][pair][:, :height, :width]),
            image_info=tf.constant(np.pad(data["hw"][pair], [(0, 0), (0, 1)], constant_values=1), tf.float32),
            boxes=tf.constant(data["boxes"][pair], tf.float32),
            classes=tf.constant(np.where(classes >= 0, classes + shift, -1)),
            image_ids=tf.constant(pair, tf.int64),
            edges=tf.stack([np.pad(rows, [(0, longest - len(rows)), (0, 0)]) for rows in edges]),
            edge_owners=tf.stack(
                [np.pad(rows, [(0, longest - len(rows)), (0, 0)], constant_values=-1) for rows in owners]
            ),
        )


def _edges(data: dict[str, np.ndarray], image: int) -> tuple[np.ndarray, np.ndarray]:
    """Polygon edges float32 [E, 4] of an image, and their owners int32 [E, 2]."""
    edges, owners, parts = [np.zeros([0, 4], np.float32)], [np.zeros([0, 2], np.int32)], {}
    ends = np.cumsum(data["polygon_length"])
    for end, length, (of_image, number) in zip(ends, data["polygon_length"], data["polygon_image_object"], strict=True):
        if of_image == image:
            corners = data["polygon_xy"][end - length : end].reshape(-1, 2)
            edges.append(np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1).astype(np.float32))
            owners.append(np.tile(np.int32([number, parts.setdefault(number, 0)]), [len(corners), 1]))
            parts[number] += 1
    order = np.argsort(np.concatenate(owners)[:, 0], kind="stable")
    return np.concatenate(edges)[order], np.concatenate(owners)[order]


def compare(run: Trajectory, steps: int | None = None, tell=lambda text: None) -> list[Difference]:
    """Trains the first `steps` steps, all by default, and compares them.

    Args:
        run: the stored run.
        steps: how many.
        tell: receives a line now and then.
    """
    configuration = configure(run)
    trainer = configuration.build("Trainer")
    rate = configuration.build("Schedule").for_batch(2, len(run.stored["lr"]))
    strategy = trainer.prepare()
    with strategy.scope():
        detector = torch_folder.build_like(run.golden)
    parts = make_parts(strategy, detector, trainer)
    tracked = _Tracked(run, detector, parts.optimizer.variables_to_train)
    found = [_compare_rates(run, rate)]
    step, losses = None, []
    for number, batch in enumerate(batches(run, detector), 1):
        if number == 1:
            found += tracked.compare_gradients(detector, batch)
        if step is None:
            shapes = [[None, None, None, 3], [None, 3], [None, None, 4], [None, None], [None]]
            shapes += [[None, None, 4], [None, None, 2]]
            spec = Batch(*(tf.TensorSpec(shape, t.dtype) for shape, t in zip(shapes, batch, strict=True)))
            step = make_step(strategy, detector, parts, rate, trainer).compile(spec)
        losses.append({name: float(value) for name, value in step(batch).items()})
        if f"dw{number}/{tracked.names[0]}" in run.stored:
            found += tracked.compare_weights(number)
            tell(f"step {number}: total loss {losses[-1]['total']:.6f}")
        if number == (steps or len(run.stored["lr"])):
            break
    return found + _compare_losses(run, losses)


class _Tracked:
    """The variables that the stored run trained, in the layout and under the names of its program."""

    def __init__(self, run: Trajectory, detector: Detector, trained):
        self.run = run
        rules = torch_folder.name_map(run.golden, detector).rules
        sources = {variable.path: source_of(variable.path, rules) for variable in trained}
        self.variables = {found[0]: (variable, found[1]) for variable in trained if (found := sources[variable.path])}
        self.names = list(run.meta["trainable"])
        if set(self.names) != set(self.variables):
            other = sorted(set(self.names) ^ set(self.variables))
            raise UserError(f"{run.golden.folder}: {len(other)} tensors are trained by one side alone: {other[0]}, ...")
        self.first = self._read()

    def _read(self) -> dict[str, np.ndarray]:
        return {name: self._in_file(name, variable.numpy()) for name, (variable, _) in self.variables.items()}

    def _in_file(self, name: str, values: np.ndarray) -> np.ndarray:
        return in_file_layout(values, self.variables[name][1], self.run.golden.arrays[name].shape)

    def _sampled(self, name: str, values: np.ndarray) -> np.ndarray:
        return values.reshape(-1)[:: self.run.meta["sample_stride"][name]].astype(np.float64)

    def compare_gradients(self, detector: Detector, batch: Batch) -> list[Difference]:
        """The gradients before the first update."""
        values = [self.variables[name][0].value for name in self.names]
        moving = getattr(detector, "moving_foreground", None)
        before = None if moving is None else moving.numpy()

        @tf.function(autograph=False)
        def differentiate():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                total = tf.add_n(list(detector.losses(batch, tf.constant([0, 0])).values()))
            return tape.gradient(total, values, unconnected_gradients="zero")

        gradients = differentiate()
        if moving is not None:
            moving.assign(before)
        found = []
        for name, gradient in zip(self.names, gradients, strict=True):
            own, stored = self._sampled(name, self._in_file(name, gradient.numpy())), self.run.stored[f"grad1/{name}"]
            noise = self.run.meta["noise_max"]["grad1_rel"].get(name) or 0.0
            found.append(Difference(f"grad1/{name}", _relative(own, stored, np.max), max(10 * noise, 2e-3)))
        return found

    def compare_weights(self, number: int) -> list[Difference]:
        """How far the weights are from the first ones, by the norm of the difference."""
        found, noises = [], self.run.meta["noise_max"]["dw_relative_norm"][str(number)]
        now = self._read()
        for name in self.names:
            own = self._sampled(name, now[name] - self.first[name])
            stored = self.run.stored[f"dw{number}/{name}"].reshape(-1)
            error = _relative(own, stored, np.linalg.norm)
            # After one step most differences are below a rounding of the weights, after many all is amplified noise.
            decides = number in (10, 50)
            limit = max(10 * (noises[name] or 0.0), 1e-2)
            found.append(Difference(f"dw{number}/{name}", error, limit, decides))
        return found


def _relative(own: np.ndarray, stored: np.ndarray, size) -> float:
    scale = float(size(np.abs(stored.astype(np.float64))))
    error = float(size(np.abs(own - stored)))
    return error / scale if scale else error


def _compare_rates(run: Trajectory, rate) -> Difference:
    """The rates of all steps, as the float32 that an update is made with."""
    stored = run.stored["lr"]
    own = np.array([rate(number).numpy() for number in range(1, len(stored) + 1)])
    return Difference("learning rates", float(np.abs(own - stored.astype(np.float32)).max()), 0.0)


def _compare_losses(run: Trajectory, losses: list[dict[str, float]]) -> list[Difference]:
    """The largest difference of each loss in each window of steps."""
    found = []
    for key, stored in run.stored.items():
        if not key.startswith("loss/"):
            continue
        name = key.removeprefix("loss/")
        own = np.array([step[our_loss(run.golden, name)] for step in losses])
        for window, noise in run.meta["noise_max"]["losses"][name].items():
            first, last = (int(text) for text in window.split("_")[1:])
            errors = np.abs(own - stored[: len(own)])[first - 1 : last]
            if len(errors):
                limit = max(10 * noise, 1e-5 * float(np.abs(stored[first - 1 : last]).max()))
                found.append(Difference(f"{key} {window}", float(errors.max()), limit, last <= _DECIDING_STEPS))
    return found
