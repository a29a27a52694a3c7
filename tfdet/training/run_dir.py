"""The folder of a run: what is in it, who may write there, and when."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfdet.config.files import RUN_FILE
from tfdet.data.manifest import INDEX_FILE, MANIFEST_FILE
from tfdet.errors import UserError
from tfdet.files import PARTIAL, check_local, replacing
from tfdet.strict_json import parse_json
from tfdet.training.run_lock import RunLock

_PROBLEM = "choose another --model_dir"


class RunDirectory:
    """Names the files below a model directory; writes whole files or none.

        checkpoints/            ckpt-<step>.*, the newest few
        best/                   the checkpoint of the best evaluation; best.json says which and how good
        train/, eval/           TensorBoard event files
        config.gin              every binding of the run; parses again
        operative_config.gin    the values that were really used, defaults included
        manifest.json           the training set's: class names and category ids for evaluation and export
        evaluations.json        the figures of every evaluation by step; which ones were made
        run.lock                while a process trains: which one

    A run begins or goes on in this order, and nothing before `begin` changes the folder but the lock:

        files.check()                  # it is a run, or may become one
        with files.locked():           # by this process alone
            ...                        # build, open the data, read the checkpoint, compare
            files.begin(...)           # everything fits
            ...                        # train; `still_there` before each checkpoint

    Args:
        path: the model directory. Nothing is created until `locked`.
    """

    def __init__(self, path: str | os.PathLike):
        check_local(path, "--model_dir")
        self.path = Path(path).expanduser()
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
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"The model directory {self.path} cannot be written (it is a file): {_PROBLEM}")
        if any(self.checkpoints.glob("ckpt-*.index")):
            return
        if (self.path / INDEX_FILE).exists() or any(self.path.glob("*.tfrecord")):
            raise UserError(f"{self.path} is a data set: it stays as it is; {_PROBLEM}, such as a new folder")
        if (self.path / "saved_model.pb").exists():
            raise UserError(f"{self.path} is an exported model: it stays as it is; {_PROBLEM}, such as a new folder")
        if self.manifest.exists() and not _is_manifest(self.manifest):
            raise UserError(f"{self.manifest} is not of a run of tfdet: it stays as it is; {_PROBLEM}")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here while the block runs; see `RunLock`.

        Makes the folder where it is missing, and takes it away again where nothing was begun.

        Raises:
            UserError: another process trains here, or the folder cannot be written.
        """
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def begin(
        self, data_dir: str | os.PathLike, config: str | None = None, operative_config: str | None = None
    ) -> None:
        """Makes the folder that of this run: everything is known to fit.

        Args:
            data_dir: the training set, whose manifest is copied.
            config: gin text of every binding; None leaves the file as it is.
            operative_config: gin text of the values that were used; None likewise.

        Raises:
            UserError: the manifest cannot be read, or the folder cannot be written.
        """
        texts = {self.manifest: _manifest_text(data_dir)}
        texts |= {
            path: text for path, text in ((self.config, config), (self.operative_config, operative_config)) if text
        }
        self.create()
        self.remove_leftovers()
        self._begun = texts
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

    def copy_manifest(self, data_dir: str | os.PathLike) -> None:
        """Copies the manifest of the training set."""
        self.write(self.manifest, _manifest_text(data_dir))

    def read_classes(self) -> tuple[list[str], list[int]] | None:
        """Class names and category ids of `manifest.json`; None where nothing readable is there."""
        try:
            content = parse_json(self.manifest.read_text(encoding="utf-8"))
            return [str(name) for name in content["classes"]], [int(number) for number in content["category_ids"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_best(self, step: int, metric: str, value: float, data: str = "") -> None:
        """Writes `best.json`; `data` is the fingerprint of what was evaluated on."""
        self.write(self.best_note, json.dumps({"step": step, "metric": metric, "value": value, "data": data}) + "\n")

    def read_best(self) -> dict | None:
        """What `note_best` wrote: the keys step, metric, value, data; None where nothing readable is there."""
        try:
            note = parse_json(self.best_note.read_text(encoding="utf-8"))
            step, metric, value = int(note["step"]), str(note["metric"]), float(note["value"])
            return {"step": step, "metric": metric, "value": value, "data": str(note.get("data", ""))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def note_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the figures of an evaluation to `evaluations.json`."""
        known = self.read_evaluations() or {}
        figures = known | {step: {name: float(value) for name, value in metrics.items()}}
        self.write(self.evaluations, json.dumps({str(key): figures[key] for key in sorted(figures)}, indent=1) + "\n")

    def read_evaluations(self) -> dict[int, Any] | None:
        """The figures of every evaluation by step; None where nothing readable is there, as in runs of old."""
        try:
            return {int(step): metrics for step, metrics in parse_json(self.evaluations.read_text("utf-8")).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def lacks_evaluation(self, step: int) -> bool:
        """Whether the evaluation of a step is known not to be there: runs of old have no list."""
        known = self.read_evaluations()
        return step > 0 and known is not None and step not in known

    def remove_leftovers(self) -> None:
        """Removes what a killed run left half-written: temporary files, and parts of a checkpoint without its index."""
        for folder in (self.checkpoints, self.best):
            for leftover in [*folder.glob("ckpt-*_temp*"), *folder.glob("checkpoint.tmp*"), *folder.glob(PARTIAL)]:
                _remove(leftover)
            for part in folder.glob("ckpt-*.data-*"):
                if not part.with_name(part.name.partition(".data-")[0] + ".index").exists():
                    _remove(part)
        for leftover in [*self.path.glob("*.writing"), *self.path.glob(PARTIAL)]:
            _remove(leftover)

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
        if not self.evaluations.exists():
            self.write(self.evaluations, "{}\n")


def _manifest_text(data_dir: str | os.PathLike) -> str:
    source = Path(data_dir).expanduser() / MANIFEST_FILE
    try:
        return source.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot read {source} ({error.strerror}): is it a converted data set?") from None


def _is_manifest(path: Path) -> bool:
    try:
        return "shards" in parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
