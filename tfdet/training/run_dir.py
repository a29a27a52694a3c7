"""The files of a run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from tfdet.config.files import RUN_FILE
from tfdet.data.manifest import MANIFEST_FILE
from tfdet.errors import UserError
from tfdet.files import check_no_pattern


class RunDirectory:
    """Names the files below a model directory; writes whole files or none.

        checkpoints/            ckpt-<step>.*, the newest few
        best/                   the checkpoint of the best evaluation; best.json says which and how good
        train/, eval/           TensorBoard event files
        config.gin              every binding of the run; parses again
        operative_config.gin    the values that were really used, defaults included
        manifest.json           the training set's: class names and category ids for evaluation and export

    Args:
        path: the model directory. Nothing is created until `create`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.train_events = self.path / "train"
        self.eval_events = self.path / "eval"
        self.config = self.path / RUN_FILE
        self.operative_config = self.path / "operative_config.gin"
        self.manifest = self.path / MANIFEST_FILE
        self.best_note = self.path / "best.json"

    def create(self) -> None:
        """Makes the folders and proves that files can be written there.

        Raises:
            UserError: a folder cannot be made or written, or not read again.
        """
        check_no_pattern(self.path)
        try:
            for folder in (self.checkpoints, self.train_events):
                folder.mkdir(parents=True, exist_ok=True)
                # Permission bits say little (root ignores them, disks may be read-only): write a file.
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(b"probe")
        except OSError as error:
            raise UserError(
                f"The model directory {self.path} cannot be written ({error.strerror}): "
                "choose another --model_dir or free it"
            ) from None

    def copy_manifest(self, data_dir: str | os.PathLike) -> None:
        """Copies the manifest of the training set."""
        source = Path(data_dir).expanduser() / MANIFEST_FILE
        try:
            text = source.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"Cannot read {source} ({error.strerror}): is it a converted data set?") from None
        self.write(self.manifest, text)

    def note_best(self, step: int, metric: str, value: float) -> None:
        """Writes `best.json`."""
        self.write(self.best_note, json.dumps({"step": step, "metric": metric, "value": value}) + "\n")

    def read_best(self) -> dict | None:
        """What `note_best` wrote: the keys step, metric, value; None where nothing readable is there."""
        try:
            note = json.loads(self.best_note.read_text(encoding="utf-8"))
            return {"step": int(note["step"]), "metric": str(note["metric"]), "value": float(note["value"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove_leftovers(self) -> None:
        """Removes what a killed run left half-written: temporary files and folders of a checkpoint."""
        for folder in (self.checkpoints, self.best):
            for leftover in folder.glob("*_temp*") if folder.is_dir() else ():
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob("*.writing"):
            leftover.unlink(missing_ok=True)

    def write(self, path: Path, text: str) -> None:
        """Writes a file of the run whole or not at all; `UserError` where it cannot be."""
        temporary = path.with_name(path.name + ".writing")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            raise UserError(
                f"Cannot write {path} ({error.strerror}): free space or choose another --model_dir"
            ) from None
