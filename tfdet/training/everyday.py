"""The flags that every run needs, `--steps` to `--seed`: what they bind in a configuration of any family.

A flag names what a person wants; which parts of the configuration that concerns is found here. Each value that is set
has the flag as its origin (`config.lines.Line`), and what it does beside is said in a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfdet import arguments
from tfdet.config import Configuration
from tfdet.config.bindings import is_reference
from tfdet.config.files import RUN_FILE
from tfdet.config.lines import Line
from tfdet.config.registration import minimal_name, parameters
from tfdet.errors import UserError
from tfdet.training.distribution import count_replicas

COCO_ENTRIES = 2 * 117_266
"""Images of COCO train2017 with a box, each plain and mirrored: by these the epochs of the zoo's rows are steps."""
WARMUP_SHARE = 0.1
"""The most of a run that the warm-up takes where `--steps` or `--epochs` gives the length."""

_SIZE = re.compile(r"(\d{1,6})(?:\s*[xX×]\s*(\d{1,6}))?")


@dataclass(frozen=True)
class Everyday:
    """What a person gave; None where nothing.

    Args:
        steps: updates of the run in all.
        epochs: passes over the data, in place of `steps`; mirrored copies are passed too.
        batch: images of an update, over all replicas and micro-batches.
        lr: the learning rate of the run, at its batch.
        image_size: longest side N, or "SHORTxLONG" or (short, long): the most of the shorter and of the longer side.
        classes: names of the classes to train on, in this order; the data may have more.
        seed: of the weights, the data order and the sampling.
        patience: evaluations without a better one after which the run is complete.
        sinks: names of `Trainer.sinks`, or one text with commas between them; "none" is none.
    """

    steps: int | None = None
    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None
    image_size: int | str | tuple[int, int] | None = None
    classes: Sequence[str] | None = None
    seed: int | None = None
    patience: int | None = None
    sinks: Sequence[str] | str | None = None

    def settle(self, configuration: Configuration, continues: bool = False) -> tuple[list[Line], list[str]]:
        """What the flags are in a configuration.

        Args:
            configuration: of everything else.
            continues: it is that of a run that goes on: its schedule stays as it is.

        Returns:
            Lines to be parsed after the others of the configuration, and what a person should know, a line each.

        Raises:
            UserError: flags contradict each other, or the configuration has nothing that a flag could set.
        """
        found = _Settled(configuration)
        self._length(found, continues)
        self._batch(found, continues)
        if self.lr is not None:
            found.set("--lr", "Schedule.base_lr", self.lr)
            if configuration.value("Schedule.reference_batch") is not None:
                found.set("--lr", "Schedule.scale_lr", False)
        if self.image_size is not None:
            _image_size(found, _sides(self.image_size))
        if self.classes is not None:
            _, names = arguments.class_names(None, self.classes)
            for part in ("TrainInput", "EvalInput"):
                found.set("--classes", f"{part}.classes", tuple(names or ()))
        if self.seed is not None:
            found.set("--seed", "Trainer.seed", self.seed)
        if self.patience is not None:
            found.set("--patience", "Trainer.patience", arguments.whole_number("--patience", self.patience, 1))
        if self.sinks is not None:
            names = self.sinks.split(",") if isinstance(self.sinks, str) else list(self.sinks)
            sinks = tuple(name.strip() for name in names if name.strip() not in ("", "none"))
            found.set("--sinks", "Trainer.sinks", sinks)
        return found.lines, found.notes

    def _length(self, found: _Settled, continues: bool) -> None:
        if self.steps is None and self.epochs is None:
            return
        if self.steps is not None and self.epochs is not None:
            raise UserError("--steps and --epochs both say how long the run is: give one of them")
        flag, value = ("--steps", self.steps) if self.steps is not None else ("--epochs", self.epochs)
        configuration = found.configuration
        factor, steps = configuration.value("Schedule.length_factor"), configuration.value("Trainer.steps")
        if not continues:
            self._schedule(found, flag)
        if factor != 1 and not continues:
            found.drop(flag, "Schedule.length_factor")
            found.set(flag, "Schedule.length_factor", 1.0)
        elif factor != 1:
            least = 1 if flag == "--steps" else 0
            number = arguments.whole_number("steps", value, least) if least else arguments.number("epochs", value)
            value = max(1, round(number / factor)) if flag == "--steps" else number / factor
            found.notes.append(f"{flag} {number:g}: {value:g} times the run's own Schedule.length_factor = {factor:g}")
        if flag == "--steps":
            if configuration.is_bound("Trainer.epochs") and (steps is None or found.is_a_persons("Trainer.epochs")):
                found.drop(flag, "Trainer.epochs")
            found.set(flag, "Trainer.steps", value)
        else:
            if steps is not None:
                found.drop(flag, "Trainer.steps")
                found.set(flag, "Trainer.steps", None)
            found.set(flag, "Trainer.epochs", value)

    def _schedule(self, found: _Settled, flag: str) -> None:
        """Decays and warm-up of a recipe that is made for another length."""
        configuration, said = found.configuration, []
        steps = configuration.value("Schedule.decay_steps")
        by_steps = configuration.value("Schedule.decay") == "steps" and configuration.value("Schedule.decay_at") is None
        if by_steps and not found.is_a_persons("Schedule.decay_steps"):
            shares = self._shares(configuration, steps)
            if shares is None:
                found.notes.append(
                    f"{flag}: the learning rate decays after {_listed(steps)} steps as before, for it is not known of "
                    "how many; Schedule.decay_at = (0.67, 0.89) makes it follow the run's length"
                )
            else:
                found.set(flag, "Schedule.decay_at", shares)
                said.append(f"the learning rate decays at {_listed(f'{share:.0%}' for share in shares)} of the run")
        if configuration.value("Schedule.warmup_at_most") is None and configuration.value("Schedule.warmup_steps"):
            found.set(flag, "Schedule.warmup_at_most", WARMUP_SHARE)
            said.append(f"the warm-up takes at most {WARMUP_SHARE:.0%} of the run")
        if said:
            found.notes.append(f"{flag}: {', and '.join(said)}")

    def _shares(self, configuration: Configuration, decay_steps: Sequence[int]) -> tuple[float, ...] | None:
        """The decays of a recipe as shares of its length; None where that is not known."""
        reference, length = configuration.value("Schedule.reference_batch"), configuration.value("Trainer.steps")
        if length is not None and reference is not None:
            length *= _own_batch(configuration)[0] / reference
        elif length is None:
            names = ("Trainer.epochs", "Schedule.decay_steps")
            ours = all(configuration.is_of_a_row(name) or not configuration.is_bound(name) for name in names)
            if not ours or reference is None:
                return None
            length = configuration.value("Trainer.epochs") * COCO_ENTRIES / reference
        shares = tuple(round(step / length, 3) for step in decay_steps)
        fits = all(0 < share < 1 for share in shares) and len(set(shares)) == len(shares)
        return shares if fits else None

    def _batch(self, found: _Settled, continues: bool) -> None:
        if self.batch is None:
            return
        configuration, batch = found.configuration, arguments.whole_number("--batch", self.batch, 1)
        own, replicas, accumulate = _own_batch(configuration)
        each, rest = divmod(batch, replicas * accumulate)
        if rest:
            micro = f" x {accumulate} micro-batches (Trainer.accumulate)" if accumulate > 1 else ""
            raise UserError(
                f"--batch {batch}: the images of an update are shared out evenly over {replicas} replicas{micro}: give "
                f"a multiple of {replicas * accumulate}, or other Trainer.replicas"
            )
        found.set("--batch", "TrainInput.images_per_replica", each)
        if self.lr is not None or continues:
            return
        base, reference = configuration.value("Schedule.base_lr"), configuration.value("Schedule.reference_batch")
        if reference is None or not configuration.value("Schedule.scale_lr"):
            reference = own
            if batch != own:
                found.set("--batch", "Schedule.base_lr", float(f"{base * batch / own:.6g}"))
        if batch != reference:
            found.notes.append(
                f"--batch {batch}: learning rate {base * batch / reference:.4g} = {base:g} x {batch} / {reference}, in "
                "proportion to the batch; --lr gives another"
            )


class _Settled:
    """Collects lines and notes."""

    def __init__(self, configuration: Configuration):
        self.configuration = configuration
        self.lines: list[Line] = []
        self.notes: list[str] = []
        self._dropped: set[str] = set()

    def set(self, flag: str, name: str, value: Any) -> None:
        """Binds a parameter; says so where the same command binds it otherwise."""
        if name not in self._dropped and self.is_a_persons(name) and self.configuration.value(name) != value:
            self.drop(flag, name)
        self.lines.append(Line.setting(name, value, flag))

    def drop(self, flag: str, name: str) -> None:
        """Says that a value does not count."""
        self._dropped.add(name)
        place = self.configuration.place(name)
        self.notes.append(f"{flag} counts, and not {name} = {self.configuration.value(name)!r} ({place})")

    def is_a_persons(self, name: str) -> bool:
        """Whether `--gin_param`, or a value from Python, sets it."""
        return self.configuration.place(name) == "--gin_param"


def ignored_epochs(configuration: Configuration) -> list[str]:
    """A warning where a person set `Trainer.epochs` and `Trainer.steps` of a gin file counts."""
    epochs, steps = (configuration.place(f"Trainer.{name}") for name in ("epochs", "steps"))
    if configuration.value("Trainer.steps") is None or "default" in (epochs, steps):
        return []
    if configuration.is_of_a_row("Trainer.epochs") or RUN_FILE in epochs:
        return []
    number = configuration.value("Trainer.epochs")
    return [
        f"Trainer.epochs = {number:g} ({epochs}) does nothing, for Trainer.steps = "
        f"{configuration.value('Trainer.steps')} ({steps}) counts: --epochs {number:g} makes the epochs count"
    ]


def _own_batch(configuration: Configuration) -> tuple[int, int, int]:
    """Images of an update by the configuration, with the replicas and micro-batches that they are shared out over."""
    replicas = count_replicas(configuration.value("Trainer.replicas"))
    accumulate = configuration.value("Trainer.accumulate")
    return configuration.value("TrainInput.images_per_replica") * replicas * accumulate, replicas, accumulate


def _sides(size: int | str | tuple[int, int]) -> tuple[int, int]:
    """Short and long side of `--image_size`."""
    if isinstance(size, (tuple, list)) and len(size) == 2:
        short, long = sorted(arguments.whole_number("--image_size", side, 1) for side in size)
        return short, long
    match = _SIZE.fullmatch(size.strip() if isinstance(size, str) else str(size))
    if match is None or isinstance(size, bool):
        raise UserError(f"--image_size {size}: give one side, such as 512, or the short and the long one, 800x1333")
    short, long = sorted((int(match[1]), int(match[2] or match[1])))
    arguments.whole_number("--image_size", short, 1)
    return short, long


def _image_size(found: _Settled, sides: tuple[int, int]) -> None:
    """Train and test sizes; what is stated in proportion to them goes along."""
    configuration, (short, long) = found.configuration, sides
    flag = "--image_size"
    jitter = configuration.value("TrainInput.jitter")
    if jitter is not None:
        _window(found, jitter, sides)
    own = configuration.value("TrainInput.short_side")
    if isinstance(own, (tuple, list)) and len(own) > 1:
        scaled = tuple(dict.fromkeys(max(1, round(side * short / max(own))) for side in own))
        found.set(flag, "TrainInput.short_side", scaled)
        found.notes.append(f"{flag}: training draws short sides {_listed(scaled)}, in the proportions of the recipe")
    else:
        found.set(flag, "TrainInput.short_side", short)
    found.set(flag, "TrainInput.long_side", long)
    before = configuration.value("EvalInput.short_side"), configuration.value("EvalInput.long_side")
    found.set(flag, "EvalInput.short_side", short)
    found.set(flag, "EvalInput.long_side", long)
    scales, longest = (configuration.value(f"TestTimeAugmentation.{name}") for name in ("scales", "long_side"))
    if scales:
        scaled = tuple(dict.fromkeys(max(1, round(side * short / before[0])) for side in scales))
        found.set(flag, "TestTimeAugmentation.scales", scaled)
    if longest is not None:
        found.set(flag, "TestTimeAugmentation.long_side", max(1, round(longest * long / before[1])))


def _window(found: _Settled, jitter: Any, sides: tuple[int, int]) -> None:
    """The window of a jitter, which all images share."""
    flag, (short, long) = "--image_size", sides
    selector = jitter.configurable.selector if is_reference(jitter) else None
    if selector is None or not {"height", "width"} <= set(parameters(selector)):
        raise UserError(f"{flag} does not know the sizes of TrainInput.jitter here: set them by --gin_param")
    if short != long:
        raise UserError(
            f"{flag} {short}x{long}: {minimal_name(selector)} shows every image on one window, whichever way it lies: "
            f"give one side, such as {flag} {long}"
        )
    for side in ("height", "width"):
        found.set(flag, "/".join((*jitter.scopes, f"{minimal_name(selector)}.{side}")), long)


def _listed(values: Any) -> str:
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
