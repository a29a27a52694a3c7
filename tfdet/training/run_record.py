"""What a run is: its classes, its data and its values. Every checkpoint keeps it; who continues has to agree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfdet.config import Configuration
from tfdet.config.show import DEFAULT, settings
from tfdet.errors import UserError
from tfdet.strict_json import field, parse_json

FREE_PARTS = ("EvalInput", "TestTimeAugmentation", "Validation", "Row")
"""Parts that do not train: every value of theirs may differ when a run goes on."""

FREE = frozenset(
    [f"TrainInput.{name}" for name in ("data_dir", "num_parallel_calls", "prefetch")]  # data is known by its content
    # How long, and what is told and kept on the way. Replicas and micro-batches: their product with the images of each
    # is compared.
    + [
        f"Trainer.{name}"
        for name in (
            "steps", "epochs", "log_every", "checkpoint_every", "keep_checkpoints", "evaluate_every", "best_metric",
            "patience", "evaluate_raw", "graph", "sinks", "deterministic", "init_weights", "replicas", "accumulate",
            "communication", "ordered_sums", "worker_timeout",
        )
    ]
)  # fmt: skip
"""Values that may differ when a run goes on, beside those of `FREE_PARTS`."""

_KEPT = {"classes": list, "category_ids": list, "data_name": str, "data": str, "values": dict, "defaults": list}
_SHOWN = 100  # characters of a value in a message
_NAMES_SHOWN = 12  # classes of a list in a message


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a run is.

    Attributes:
        classes: names by class, C of them.
        category_ids: original ids, in the same order.
        data_name: name of the training set.
        data: fingerprint of its records; see `data_fingerprint`.
        values: `Trainer.momentum` -> "0.9", as a gin file has it: every parameter of every part that the configuration
            binds something of. Empty where there is no configuration.
        defaults: of these names, those that nothing binds.
        lengths: (updates that were done, length of the run from then on), the first (0, length); see
            `Schedule.for_batch`. Empty in checkpoints of old.
        config: gin text of every binding; None where there is no configuration.
        operative_config: gin text of what was built; None likewise.
        may_change: values and data that differ from those of the run are taken over (`--change`).
    """

    classes: Sequence[str]
    category_ids: Sequence[int]
    data_name: str = ""
    data: str = ""
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Sequence[str] = ()
    lengths: Sequence[tuple[int, int]] = ()
    config: str | None = None
    operative_config: str | None = None
    may_change: bool = False

    @classmethod
    def of(cls, manifest: Any, configuration: Configuration | None = None, may_change: bool = False) -> RunRecord:
        """The record of a run that is about to begin or to go on.

        Args:
            manifest: of the training set.
            configuration: of the run, everything built; None where it has none.
            may_change: see the class.
        """
        own = [] if configuration is None else settings(configuration, defaults=True)
        return cls(
            classes=list(manifest.classes),
            category_ids=[int(number) for number in manifest.category_ids],
            data_name=str(manifest.name),
            data=data_fingerprint(manifest),
            values={f"{setting.part}.{setting.parameter}": setting.value for setting in own},
            defaults=[f"{setting.part}.{setting.parameter}" for setting in own if setting.place == DEFAULT],
            config=None if configuration is None else configuration.text(),
            operative_config=None if configuration is None else configuration.operative_text(),
            may_change=may_change,
        )

    def json(self) -> str:
        """What a checkpoint keeps."""
        return json.dumps({"version": 1} | {name: getattr(self, name) for name in (*_KEPT, "lengths")})

    @classmethod
    def parse(cls, text: str | bytes | None) -> RunRecord | None:
        """What `json` wrote; None where there is none that this program reads."""
        try:
            content = parse_json(text or "null")
            lengths = tuple((int(step), int(length)) for step, length in field(content, "lengths", list, []))
            record = cls(**{name: field(content, name, kind) for name, kind in _KEPT.items()}, lengths=lengths)
        except (ValueError, TypeError):
            return None
        texts = (*record.classes, *record.values.values(), *record.defaults)
        return record if all(isinstance(text, str) for text in texts) else None

    def listed(self) -> str:
        """Category ids and names, for a message: `1 'car', 6 'bus'`."""
        pairs = [f"{number} {name!r}" for number, name in zip(self.category_ids, self.classes)]
        more = f", ... ({len(pairs)} in all)" if len(pairs) > _NAMES_SHOWN else ""
        return ", ".join(pairs[:_NAMES_SHOWN]) + more

    def differences(self, now: RunRecord, free: bool = False) -> dict[str, tuple[str, str]]:
        """What another record has otherwise, classes left out: name -> (here, there).

        Args:
            now: the other one.
            free: look at those that may differ, and not at those that may not.

        A value that one side binds and the other leaves at the same default is the same; so is one that a part alone
        has by its default, as versions of tfdet may differ in.
        """
        found: dict[str, tuple[str, str]] = {}
        if self.data and now.data and self.data != now.data and not free:
            found["data set"] = (f"{self.data_name} ({self.data[:8]})", f"{now.data_name} ({now.data[:8]})")
        if not self.values or not now.values:
            return found
        sides = ((self.values, set(self.defaults)), (now.values, set(now.defaults)))
        for name in dict.fromkeys([*self.values, *now.values]):
            if is_free(name) != free:  # by now
                continue
            if all(name in values for values, _ in sides):
                same = self.values[name] == now.values[name]
            else:
                same = all(name in defaults for values, defaults in sides if name in values)
            if not same:
                found[name] = (self.values.get(name, "not there"), now.values.get(name, "not there"))
        return found

    def check_classes(self, now: RunRecord, where: str | os.PathLike) -> None:
        """`UserError` where the data of a run that goes on has other classes, another order or other category ids.

        Args:
            now: of the data.
            where: the folder of the run.
        """
        if list(self.classes) == list(now.classes) and list(self.category_ids) == list(now.category_ids):
            return
        differ = [pair for pair in zip(self.classes, now.classes) if pair[0] != pair[1]]
        what = "other category ids"
        if differ or len(self.classes) != len(now.classes):
            same = sorted(self.classes) == sorted(now.classes)
            what = "the same classes in another order" if same else "other classes"
        place = f": {differ[0][0]!r} in place of {differ[0][1]!r}" if differ else ""
        raise UserError(
            f"the run in {os.fspath(where)} was trained on other classes than those of the data set "
            f"{now.data_name!r}, or in another order{place}. The data set has {what}: the run's are {self.listed()}, "
            f"its are {now.listed()}; choose another model directory for these data"
        )

    def check_changes(self, changes: Mapping[str, tuple[str, str]], where: str | os.PathLike) -> list[str]:
        """What differs, a line each; `UserError` with all of them where it may not.

        Args:
            changes: name -> (the run's, the new one).
            where: the folder of the run.
        """
        shown = lines_of(changes)
        if shown and not self.may_change:
            raise UserError(
                f"the run in {os.fspath(where)} was trained with other values: {'; '.join(shown)}. To go on as it was "
                f"give --resume {os.fspath(where)} alone, for another run another --model_dir; --change (change=True "
                "in Python) goes on with the new values"
            )
        return shown


def lines_of(changes: Mapping[str, tuple[str, str]]) -> list[str]:
    """`Trainer.momentum 0.9 -> 0.8` for each change, name -> (old, new), cut where a value is long."""
    return [f"{name} {_short(old)} -> {_short(new)}" for name, (old, new) in changes.items()]


def is_free(name: str) -> bool:
    """Whether `Trainer.steps`, say, may differ when a run goes on."""
    part = name.rpartition(".")[0]
    return name in FREE or part.rpartition("/")[2] in FREE_PARTS


def data_fingerprint(manifest: Any) -> str:
    """Of the records of a data set, in their order, wherever they lie: SHA-256 in hex.

    Args:
        manifest: a `Manifest`, which has the checksum of every shard. Without shards the fingerprint is "".
    """
    checksums = [shard.sha256 for shard in getattr(manifest, "shards", ())]
    return hashlib.sha256(" ".join(checksums).encode()).hexdigest() if checksums else ""


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."
