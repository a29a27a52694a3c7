"""Conversion in parts: n machines write one n-th of the shards each, and a merge makes the data set of them.

    OUTPUT.parts/2-of-4/SET/       shards, index.npz (of the part alone), census.npz, part.json

SET is a split, or "all". Each machine reads all annotations and divides them alike, so none asks another one. The merge
makes the very data set of one run: records, index, report and manifest, byte for byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdet.arguments import MAX_PIXELS
from tfdet.data.annotations import Category
from tfdet.data.convert import StrictError, Target, check_arguments, progress_bar, shard_starts, write_images
from tfdet.data.index import INDEX_FILE, RecordIndex
from tfdet.data.manifest import Manifest, file_sha256
from tfdet.data.problems import Problem, ProblemReport
from tfdet.data.splitting import ALL
from tfdet.data.suspicious import BoxCensus, suspicious_problems
from tfdet.data.writer import DatasetWriter, ManifestBuilder
from tfdet.errors import UserError
from tfdet.files import check_local, replacing, write_json
from tfdet.strict_json import read_json
from tfdet.text import one_line

PART_FILE = "part.json"
_CENSUS_FILE = "census.npz"
_VERSION = 1
_ALIKE = ("version", "sets", "fingerprint", "name", "source", "categories", "strict")


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several parts of a conversion: number 1 to `of`."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Of "2/4"; `UserError` for anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(text).strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"part {text}: give the number of the part and how many there are, such as 2/4")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parts_folder(output: str | os.PathLike) -> Path:
    """Where the parts of the data set, or of the splits, in `output` lie."""
    check_local(output, "--output")
    output = Path(output).absolute()
    return output.with_name(f"{output.name}.parts")


def convert_part(
    targets: Mapping[str, Target],
    output: str | os.PathLike,
    part: Part,
    report: ProblemReport,
    num_shards: int | None = None,
    num_workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    console=None,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Path]:
    """Writes one part of sets, below `parts_folder(output)`.

    Args:
        targets: all sets whole, by the names of the splits; their folders are those that the merge will make.
        output: of the merge.
        part: which one.
        report: receives the findings.
        num_shards, num_workers, strict, overwrite, console, max_pixels: as for `convert.convert`.

    Returns:
        The folders of the part by the names of the splits.

    Raises:
        StrictError, UserError: as for `convert.convert`; there are fewer shards than parts.
    """
    num_workers = check_arguments(list(targets.values()), num_shards, num_workers)
    starts = {key: shard_starts(len(target.annotations.images), num_shards) for key, target in targets.items()}
    most = max(map(len, starts.values()))
    if part.of > most:
        raise UserError(
            f"part {part}: there are {most} shards to share out; give --num_shards={part.of}, or fewer parts"
        )
    before = list(report.problems)
    fingerprint = _fingerprint(targets, starts, max_pixels)
    root = parts_folder(output) / f"{part.number}-of-{part.of}"
    folders = {key: root / key for key in targets}
    with contextlib.ExitStack() as stack:
        writers = {
            key: stack.enter_context(
                DatasetWriter(
                    folders[key], target.name, target.annotations.categories, target.source, overwrite, PART_FILE
                )
            )
            for key, target in targets.items()
        }
        own_images = {}
        for key, target in targets.items():
            ends = [*starts[key], len(target.annotations.images)]
            first, last = (len(starts[key]) * number // part.of for number in (part.number - 1, part.number))
            own_images[key] = (ends[first], ends[last], {start - ends[first] for start in ends[first:last]})
        total = sum(last - first for first, last, _ in own_images.values())
        advance = stack.enter_context(progress_bar(console, total, f"converting part {part}"))
        found, censuses = {}, {}
        for key, target in targets.items():
            first, last, own_starts = own_images[key]
            found[key] = ProblemReport()
            images = target.annotations.images[first:last]
            try:
                censuses[key] = write_images(
                    writers[key], images, own_starts, found[key], num_workers, max_pixels, advance
                )
            finally:
                report.extend(found[key].problems)
        if strict and report.has_problems:
            raise StrictError
        for key, target in targets.items():
            content = {
                "version": _VERSION,
                "sets": list(targets),
                "fingerprint": fingerprint,
                "name": target.name,
                "source": target.source,
                "categories": [dataclasses.asdict(category) for category in target.annotations.categories],
                "strict": strict,
                "before": [dataclasses.asdict(problem) for problem in before],
                "problems": [dataclasses.asdict(problem) for problem in found[key].problems],
            }
            writers[key].commit_part(_Written(content, censuses[key]))
    return folders


@dataclasses.dataclass(frozen=True)
class _Written:
    """Writes what a part has beside its shards."""

    content: dict[str, Any]
    census: BoxCensus

    def __call__(self, folder: Path, builder: ManifestBuilder, files: Sequence[str]) -> None:
        builder.index().save(folder / INDEX_FILE)
        with replacing(folder / _CENSUS_FILE) as temporary:
            np.savez(temporary, **self.census.columns())
        shards = [{"file": file, "sha256": file_sha256(folder / file)} for file in files]
        counted = {"records": len(builder), "counted": builder.counted(), "shards": shards}
        write_json({**self.content, **counted}, folder / PART_FILE)


def merge(
    output: str | os.PathLike,
    report: ProblemReport,
    strict: bool = False,
    overwrite: bool = False,
    console=None,
) -> dict[str, Manifest]:
    """Makes the data set, or those of the splits, of the parts that `convert_part` wrote, and removes the parts.

    Args:
        output: as given to the parts.
        report: receives the findings of all parts.
        strict: write nothing when anything but notes was found; also where the parts were made so.
        overwrite: replace data sets that are there.
        console: a `rich.console.Console` for the progress bar; None shows none.

    Returns:
        The manifests by the names of the splits.

    Raises:
        StrictError: `strict`, and there are findings.
        UserError: a part is missing, damaged, or was made of something else than the others.
    """
    root = parts_folder(output)
    of = _number_of_parts(root)
    first = _read_parts(root, of)
    manifests, reports = {}, []
    with contextlib.ExitStack() as stack:
        writers: dict[str, DatasetWriter] = {}
        for key, parts in first.items():
            head = parts[0]
            categories = [Category(**category) for category in head["categories"]]
            place = Path(output) if key == ALL else Path(output) / key
            writers[key] = stack.enter_context(
                DatasetWriter(place, head["name"], categories, head["source"], overwrite)
            )
        total = sum(len(part["shards"]) for parts in first.values() for part in parts)
        advance = stack.enter_context(progress_bar(console, total, "merging shards"))
        for number, (key, parts) in enumerate(first.items()):
            own, census = ProblemReport(), BoxCensus()
            before = [Problem(**problem) for problem in parts[0]["before"]]
            own.extend(before)
            for part_number, part in enumerate(parts, 1):
                folder = root / f"{part_number}-of-{of}" / key
                _take(writers[key], folder, part, census, advance)
                own.extend(Problem(**problem) for problem in part["problems"])
            if not len(writers[key]):
                raise UserError("no image could be used, so no data set was written; the findings above say why")
            own.extend(list(suspicious_problems(census, parts[0]["name"], own.counts())))
            report.extend(own.problems if number == 0 else own.problems[len(before) :])
            reports.append(own)
        if report.has_problems and (strict or any(parts[0]["strict"] for parts in first.values())):
            raise StrictError
        for (key, writer), own in zip(writers.items(), reports, strict=True):
            manifests[key] = writer.commit(own)
    shutil.rmtree(root, ignore_errors=True)
    return manifests


def _take(writer: DatasetWriter, folder: Path, part: Mapping[str, Any], census: BoxCensus, advance) -> None:
    for shard in part["shards"]:
        path = folder / shard["file"]
        if not os.path.isfile(path) or file_sha256(path) != shard["sha256"]:
            raise UserError(f"{path} is missing or was changed: copy it again, or make the part again with --overwrite")
        advance()
    index = RecordIndex.load(folder / INDEX_FILE, part["records"])
    writer.take_part(folder, [shard["file"] for shard in part["shards"]], index, part["counted"])
    try:
        with np.load(folder / _CENSUS_FILE, allow_pickle=False) as columns:
            census.extend(columns)
    except Exception as error:  # numpy raises nearly anything on damaged files
        raise UserError(f"{folder / _CENSUS_FILE} is damaged ({one_line(str(error))}): make the part again") from None


def _number_of_parts(root: Path) -> int:
    """How many parts there are to be; `UserError` where there are none, of two numbers, or not all."""
    found = [re.fullmatch(r"(\d+)-of-(\d+)", path.name) for path in root.glob("*-of-*")]
    numbers = {(int(match[1]), int(match[2])) for match in found if match}
    if not numbers:
        raise UserError(
            f"there are no parts to merge in {root}: tfdet convert_data ... --part=1/4 makes the first of 4"
        )
    if len(kinds := {of for _, of in numbers}) > 1:
        words = " and ".join(f"of {of}" for of in sorted(kinds))
        raise UserError(f"{root} holds parts {words}: remove those that are not meant")
    (of,) = kinds
    if missing := [number for number in range(1, of + 1) if (number, of) not in numbers]:
        shown = ", ".join(f"{number}/{of}" for number in missing[:10])
        raise UserError(f"{root} lacks {len(missing)} of {of} parts: run the same command with --part={shown}")
    return of


def _read_parts(root: Path, of: int) -> dict[str, list[dict[str, Any]]]:
    """By set what all parts say; `UserError` where one is damaged or of something else."""
    read: dict[str, list[dict[str, Any]]] = {}
    keys: Sequence[str] = ()
    for number in range(1, of + 1):
        folder = root / f"{number}-of-{of}"
        keys = keys or sorted(path.parent.name for path in folder.glob(f"*/{PART_FILE}"))
        for key in keys:
            path = folder / key / PART_FILE
            try:
                content = read_json(path, "part of a data set")
                if content["version"] != _VERSION:
                    raise UserError(f"{path} has version {content['version']}, this program reads {_VERSION}")
                parts = read.setdefault(key, [])
                parts.append(content)
                if differing := [name for name in _ALIKE if content[name] != parts[0][name]]:
                    raise UserError(
                        f"part {number}/{of} was made of something else than part 1/{of}: they differ in "
                        f"{differing[0]}; all need the same annotations, images and flags"
                    )
                content["problems"], content["counted"], content["shards"], content["records"]  # KeyError
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path} is no whole part of a data set ({one_line(repr(error))}): make it again"
                ) from None
    if not keys or set(keys) != set(read[keys[0]][0]["sets"]):
        raise UserError(f"{root} holds parts that were not finished: run the same commands again")
    return {key: read[key] for key in read[keys[0]][0]["sets"]}


def _fingerprint(targets: Mapping[str, Target], starts: Mapping[str, list[int]], max_pixels: int) -> str:
    """Of all that decides the records, but for the images themselves and where they lie."""
    digest = hashlib.sha256(repr((max_pixels, starts)).encode())
    for key, target in targets.items():
        digest.update(repr((key, target.name)).encode())
        for image in target.annotations.images:
            own = (image.image_id, image.file_name, image.height, image.width)
            objects = [
                (item.x, item.y, item.width, item.height, item.category_id, item.area, item.is_crowd)
                for item in image.objects
            ]
            digest.update(repr((own, objects)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
