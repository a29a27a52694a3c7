"""The folder of a run: what is in it, who may write there, and when."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfdet import arguments
from tfdet.config.files import RUN_FILE
from tfdet.data.manifest import INDEX_FILE, MANIFEST_FILE
from tfdet.errors import UserError
from tfdet.files import at_home, partials, read_regular, replacing
from tfdet.strict_json import field, parse_json
from tfdet.training.run_lock import RunLock

_PROBLEM = "choose another --model_dir"
_STAYS = f"it stays as it is; {_PROBLEM}, such as a new folder"
_TEMPORARY = re.compile(r"ckpt-\d+_temp.*|checkpoint\.tmp.*")  # TensorFlow's, while it writes a checkpoint
_NUMBER = (int, float)
_PART = re.compile(r"(ckpt-\d+)\.data-\d+-of-\d+")
_EVENTS = re.compile(r"events\.out\..*|plugins|\..*")  # what TensorBoard's folders hold, and hidden files


class RunDirectory:
    """Names the files below a model directory; writes whole files or none.

        checkpoints/            ckpt-<step>.*, the newest few
        best/                   the checkpoint of the best evaluation; best.json says which and how good
        train/, eval/           TensorBoard event files
        config.gin              every binding of the run; parses again
        operative_config.gin    the values that were really used, defaults included
        manifest.json           the training set's: class names and category ids for evaluation and export
        evaluations.json        the figures of every evaluation by step; which ones were made
        metrics.csv             the figures of every report, a row a step (`Trainer.sinks`)
        sinks.json              what W&B and MLflow call the run, where they are told
        run.lock                while a process trains: which one

    A run begins or goes on in this order, and nothing before `begin` changes the folder but the lock:

        with files.locked():           # it is a run, or may become one (`check`), and no other process trains in it
            ...                        # build, open the data, read the checkpoint, compare (`RunRecord`)
            files.begin(...)           # everything fits
            ...                        # train; `still_there` before each checkpoint

    Args:
        path: the model directory. Nothing is created until `locked`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = at_home(arguments.path("--model_dir", path))
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.train_events = self.path / "train"
        self.eval_events = self.path / "eval"
        self.config = self.path / RUN_FILE
        self.operative_config = self.path / "operative_config.gin"
        self.manifest = self.path / MANIFEST_FILE
        self.best_note = self.path / "best.json"
        self.evaluations = self.path / "evaluations.json"
        self._lock = RunLock(self.path / "run.lock")
        self._begun: dict[Path, str] = {}  # what `begin` wrote

    def check(self) -> None:
        """`UserError` where the folder is something else than a run, which training would write over."""
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UserError(f"The model directory {self.path} cannot be written (it is a file): {_PROBLEM}")
        if any(self.checkpoints.glob("ckpt-*.index")):
            return
        if what := _other_kind(self.path):
            raise UserError(f"{self.path} is {what}: {_STAYS}")
        if os.path.exists(self.manifest) and not _is_manifest(self.manifest):
            raise UserError(f"{self.manifest} is not of a run of tfdet: {_STAYS}")
        # A run that was killed before its first checkpoint goes on.
        if self._is_begun() or self._lock.owner() is not None:
            return
        for file in (self.config, self.operative_config, self.evaluations, self.best_note):
            if os.path.lexists(file):
                raise UserError(f"{file} is in the way: {self.path} is no run of tfdet, and a run writes it; {_STAYS}")
        for folder in (self.train_events, self.eval_events, self.checkpoints, self.best):
            if what := _other_kind(folder, manifest=True):
                raise UserError(f"{folder} is {what}, and a run writes there: {_STAYS}")
        for folder in (self.train_events, self.eval_events):
            if other := _other_than_events(folder):
                raise UserError(f"{other} is not of a run of tfdet, and a run writes into {folder}: {_STAYS}")

    def _is_begun(self) -> bool:
        """Whether `begin` was here before; the lock does not count, which is taken earlier."""
        return (
            any(self.checkpoints.glob("ckpt-*.index"))
            or _is_manifest(self.manifest)
            or self.read_evaluations() is not None
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here while the block runs; see `RunLock`.

        Makes the folder where it is missing, and takes it away again where nothing was begun.

        Raises:
            UserError: it is something else than a run, another process trains here, or it cannot be written.
        """
        self.check()
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def begin(
        self,
        data_dir: str | os.PathLike,
        config: str | None = None,
        operative_config: str | None = None,
        manifest: Any = None,
    ) -> None:
        """Makes the folder that of this run: everything is known to fit.

        Args:
            data_dir: the training set, whose manifest is copied.
            config: gin text of every binding; None leaves the file as it is.
            operative_config: gin text of the values that were used; None likewise.
            manifest: a `Manifest` to be written in place of that of the folder: of some of its classes.

        Raises:
            UserError: the manifest cannot be read, or the folder cannot be written.
        """
        texts = {
            self.manifest: json.dumps(manifest.content(), indent=1) + "\n" if manifest else _manifest_text(data_dir),
            self.config: config, self.operative_config: operative_config
        }  # fmt: skip
        begun = self._is_begun()
        self.create()
        if begun:
            self.remove_leftovers()
        self._begun = {path: text for path, text in texts.items() if text}
        self._write_begun()

    def still_there(self) -> bool:
        """Whether the folder is as `begin` left it; makes it again where it was removed while the run went on.

        Raises:
            UserError: another process trains there by now, or it cannot be made again.
        """
        if not self._begun or self._lock.renew():
            return True
        self.create()
        self._write_begun()
        return False

    def create(self) -> None:
        """Makes the folders and proves that files can be written there.

        Raises:
            UserError: a folder cannot be made or written, or not read again.
        """
        try:
            for folder in (self.checkpoints, self.train_events):
                folder.mkdir(parents=True, exist_ok=True)
                # Permission bits say little (root ignores them, disks may be read-only): write a file.
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(b"probe")
        except OSError as error:
            raise UserError(
                f"The model directory {self.path} cannot be written ({error.strerror}): {_PROBLEM} or free it"
            ) from None

    def read_classes(self) -> tuple[list[str], list[int]] | None:
        """Class names and category ids of `manifest.json`; None where nothing readable is there."""
        try:
            content = parse_json(read_regular(self.manifest))
            return [str(name) for name in content["classes"]], [int(number) for number in content["category_ids"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_best(self, step: int, metric: str, value: float, data: str = "", raw: bool = False) -> None:
        """Writes `best.json`.

        Args:
            step: of the checkpoint.
            metric: key of the figure (`BestMetric`).
            value: of the figure.
            data: fingerprint of what was evaluated on.
            raw: the weights as trained were evaluated, and not their average.
        """
        note = {"step": step, "metric": metric, "value": value, "data": data, "raw": raw}
        self.write(self.best_note, json.dumps(note) + "\n")

    def read_best(self) -> dict | None:
        """What `note_best` wrote: the keys step, metric, value, data, raw; None where nothing readable is there."""
        try:
            note = parse_json(read_regular(self.best_note))
            step, metric, value = field(note, "step", int), field(note, "metric", str), field(note, "value", _NUMBER)
            more = {"data": field(note, "data", str, ""), "raw": field(note, "raw", bool, False)}
            return {"step": step, "metric": metric, "value": float(value), **more}
        except (OSError, ValueError, OverflowError):
            return None

    def note_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the figures of an evaluation to `evaluations.json`."""
        known = self.read_evaluations() or {}
        figures = known | {step: {name: float(value) for name, value in metrics.items() if math.isfinite(value)}}
        self.write(self.evaluations, json.dumps({str(key): figures[key] for key in sorted(figures)}, indent=1) + "\n")

    def read_evaluations(self) -> dict[int, Any] | None:
        """The figures of every evaluation by step; None where nothing readable is there, as in runs of old.

        An evaluation whose figures are not such is left out.
        """
        try:
            content = parse_json(read_regular(self.evaluations))
            by_step = {int(step): _figures(metrics) for step, metrics in content.items()}
        except (OSError, ValueError, AttributeError):
            return None
        return {step: figures for step, figures in by_step.items() if figures is not None}

    def lacks_evaluation(self, step: int) -> bool:
        """Whether the evaluation of a step is known not to be there: runs of old have no list."""
        known = self.read_evaluations()
        return step > 0 and known is not None and step not in known

    def remove_leftovers(self) -> None:
        """Removes what a killed run left half-written: temporary files, and parts of a checkpoint without its index.

        By the names that a run gives them: whatever else is in the folder is a person's.
        """
        for folder in (self.checkpoints, self.best):
            for path in folder.glob("*"):
                part = _PART.fullmatch(path.name)
                if part and not os.path.exists(folder / f"{part[1]}.index"):
                    _remove_file(path)
                elif _TEMPORARY.fullmatch(path.name):
                    if os.path.isdir(path) and not os.path.islink(path):
                        shutil.rmtree(path, ignore_errors=True)
                    _remove_file(path)
            for path in partials(folder / "checkpoint"):
                _remove_file(path)
        for file in (self.config, self.operative_config, self.manifest, self.best_note, self.evaluations):
            for path in [*partials(file), file.with_name(f"{file.name}.writing")]:  # as older versions called them
                _remove_file(path)

    def write(self, path: Path, text: str) -> None:
        """Writes a file of the run whole or not at all; `UserError` where it cannot be."""
        try:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except UserError as error:
            raise UserError(f"{error}: free space or {_PROBLEM}") from None

    def _write_begun(self) -> None:
        for path, text in self._begun.items():
            with contextlib.suppress(OSError, ValueError):
                if path.read_text(encoding="utf-8") == text:
                    continue
            self.write(path, text)
        if not os.path.exists(self.evaluations):
            self.write(self.evaluations, "{}\n")


def _manifest_text(data_dir: str | os.PathLike) -> str:
    source = at_home(data_dir) / MANIFEST_FILE
    try:
        return source.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot read {source} ({error.strerror}): is it a converted data set?") from None


def _is_manifest(path: Path) -> bool:
    try:
        return "shards" in parse_json(read_regular(path))
    except (OSError, ValueError, TypeError):
        return False


def _other_kind(folder: Path, manifest: bool = False) -> str | None:
    """What else than a run the folder is, in words; `manifest`: one makes it a data set, also without an index."""
    files = (INDEX_FILE, MANIFEST_FILE) if manifest else (INDEX_FILE,)
    if any(os.path.exists(folder / name) for name in files) or any(folder.glob("*.tfrecord")):
        return "a data set"
    return "an exported model" if os.path.exists(folder / "saved_model.pb") else None


def _other_than_events(folder: Path) -> Path | None:
    """What lies in a folder of events and is none; a file in its place costs figures alone, see `TensorBoardReport`."""
    return next((path for path in sorted(folder.glob("*")) if not _EVENTS.fullmatch(path.name)), None)


def _figures(metrics: Any) -> dict[str, float] | None:
    """The figures of an evaluation as floats; None for anything else."""
    try:
        return {name: float(field(metrics, name, _NUMBER)) for name in dict(metrics)}
    except (ValueError, TypeError, OverflowError):
        return None


def _remove_file(path: Path) -> None:
    if os.path.isfile(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):
            path.unlink()
