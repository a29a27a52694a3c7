"""Detects on image files, addresses, videos and cameras; writes annotated pictures and videos, and what was found."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import numpy as np

from tfdet.arguments import MAX_PIXELS
from tfdet.errors import UserError
from tfdet.files import replacing
from tfdet.interrupts import Terminated
from tfdet.predict.formats import json_objects
from tfdet.predict.found import Found
from tfdet.predict.lines import VideoLines, image_line, progress_bar
from tfdet.predict.remote import base_name, is_address, read_remote
from tfdet.predict.video import Frame, Video, VideoWriter, is_video
from tfdet.predict.writers import Writer, make_writers
from tfdet.report.drawing import save_picture
from tfdet.terminal import shown
from tfdet.text import one_line


@dataclasses.dataclass(frozen=True)
class Output:
    """What is read, and what is written where.

    Args:
        folder: to write to; made where it is absent.
        formats: of `writers.FORMATS`.
        pictures: whether annotated pictures and videos are written.
        yolo_scores: whether YOLO's files have the scores.
        frame_stride: of a video every so many-th frame is looked at.
        max_frames: looked at of each video or camera; None: all.
        max_pixels: most pixels of an image, height times width; larger ones are skipped.
    """

    folder: str | os.PathLike
    formats: Sequence[str] = ("coco",)
    pictures: bool = True
    yolo_scores: bool = False
    frame_stride: int = 1
    max_frames: int | None = None
    max_pixels: int = MAX_PIXELS


@dataclasses.dataclass
class Summary:
    """What was done.

    Attributes:
        written: files and folders, for a person.
        num_images: images and frames that were looked at.
        num_detections: objects found on them.
        failed: what could not be read, or not to its end.
        images_per_second: without the first, which traces the graph.
    """

    written: list[str] = dataclasses.field(default_factory=list)
    num_images: int = 0
    num_detections: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    images_per_second: float = 0.0


def predict_files(finder: Any, files: Sequence[str], output: Output, console: Any) -> Summary:
    """Detects on each file and says so in a line; what cannot be read is named on the console and skipped.

    A video has, beside its annotated copy, a `.jsonl` file with a line a frame. Ctrl-C ends a camera; in a video it
    ends the work after what was seen so far is written.

    Args:
      finder: from uint8 [H, W, 3] and a path to a `Found`, with `labels`.
      files: paths of images and videos, addresses, cameras; see `sources.find_images`.
      output: what is written where.
      console: a `rich.console.Console`.

    Returns:
      A `Summary`.

    Raises:
      UserError: the output cannot be written, or a picture would replace an input.
    """
    with contextlib.ExitStack() as open_files:
        folder = os.fspath(output.folder)
        writers = make_writers(output.formats, folder, finder.labels, open_files, output.yolo_scores)
        return _Work(finder, output, writers, console).all(files)


def picture_names(files: Sequence[str], output: str | os.PathLike) -> list[str]:
    """Where the annotated picture of each file goes: its base name with `.png`, of a video `.mp4`, of others `.jpg`.

    Two inputs of one base name get `name.jpg` and `name_2.jpg`.

    Raises:
      UserError: a picture would replace an input.
    """
    inputs = {os.path.realpath(path) for path in files if not is_address(path)}
    taken: set[str] = set()
    pictures = []
    for path in files:
        stem, extension = os.path.splitext(_base_name(path))
        extension = ".mp4" if is_video(path) else ".png" if extension.lower() == ".png" else ".jpg"
        picture = os.path.join(output, _untaken(stem, extension, taken))
        if os.path.realpath(picture) in inputs:
            raise UserError(f"the picture {picture} would replace an input: give another --output")
        pictures.append(picture)
    return pictures


def _base_name(path: str) -> str:
    return base_name(path) if is_address(path) else os.path.basename(path).replace(":", "_")


def _untaken(stem: str, extension: str, taken: set[str]) -> str:
    """A name that no earlier file has; some file systems do not tell upper from lower case."""
    name, count = stem + extension, 1
    while name.lower() in taken:
        count += 1
        name = f"{stem}_{count}{extension}"
    taken.add(name.lower())
    return name


class _Work:
    """One run over many images."""

    def __init__(self, finder: Any, output: Output, writers: list[Writer], console: Any):
        self._finder, self._output, self._writers, self._console = finder, output, writers, console
        self._summary = Summary()
        self._number = 0  # of the image or frame
        self._seconds, self._timed = 0.0, 0
        self._num_pictures = self._num_videos = 0
        self._stopped_by: BaseException | None = None

    def all(self, files: Sequence[str]) -> Summary:
        pictures, stems = picture_names(files, self._output.folder), set[str]()
        with progress_bar(self._console, len(files)) as advance:
            for place, (path, picture) in enumerate(zip(files, pictures), 1):
                name = _untaken(os.path.splitext(_base_name(path))[0], "", stems)
                where = f"{place:{len(str(len(files)))}d}/{len(files)}"
                if is_video(path):
                    self._video(path, picture, name)
                else:
                    self._image(path, picture, name, where)
                advance()
                if self._stopped_by is not None:
                    break
        summary = self._summary
        summary.written[:0] = [writer.finish() for writer in self._writers]
        summary.written += self._counted()
        summary.images_per_second = self._timed / self._seconds if self._seconds > 0 else 0.0
        if self._stopped_by is not None:
            raise self._stopped_by
        return summary

    def _counted(self) -> list[str]:
        counts = ((self._num_pictures, "picture"), (self._num_videos, "video"))
        return [f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count]

    def _image(self, path: str, picture: str, name: str, where: str) -> None:
        from tfdet.data.images import read_image

        self._number += 1
        try:
            read = read_remote if is_address(path) else read_image
            image = read(path, self._output.max_pixels)
        except UserError as error:
            self._skip(path, str(error))
            return
        found, seconds = self._find(image, path)
        if self._output.pictures:
            save_picture(np.asarray(found.draw()), picture)
            self._num_pictures += 1
        self._write(found, name, os.path.basename(picture) if self._output.pictures else None)
        self._say(image_line(where, path, found, seconds, self._console.width))

    def _find(self, image: np.ndarray, path: str) -> tuple[Found, float]:
        start = time.perf_counter()
        found = self._finder(image, path)
        seconds = time.perf_counter() - start
        if self._summary.num_images:  # the first image traces the graph
            self._seconds, self._timed = self._seconds + seconds, self._timed + 1
        self._summary.num_images += 1
        self._summary.num_detections += len(found)
        return found, seconds

    def _write(self, found: Found, name: str, picture: str | None) -> None:
        for writer in self._writers:
            writer.add(found, self._number, name, picture)

    def _video(self, path: str, picture: str, name: str) -> None:
        try:
            video = Video(path, self._output.max_pixels)
        except UserError as error:
            self._skip(path, str(error))
            return
        with video:
            frames = video.frames(self._output.frame_stride)
            first = next(frames, None)
            if first is None:
                self._skip(path, f"cannot read video {path}: no frame of it can be decoded")
                return
            rate = None if video.is_camera else video.rate / self._output.frame_stride
            lines = VideoLines(self._say, path, video.count, self._console.width)
            count = 0
            with self._drawn(picture, rate) as drawn, self._json_lines(name) as json_lines:
                try:
                    frame: Frame | None = first
                    while frame is not None:
                        found = self._frame(frame, path, name)
                        json_lines.write(json.dumps(_frame_entry(found)) + "\n")
                        if drawn is not None:
                            drawn.add(np.asarray(found.draw()), frame.time)
                        lines.frame(found)
                        count += 1
                        frame = None if count == self._output.max_frames else next(frames, None)
                except (KeyboardInterrupt, Terminated) as signal:
                    # For a camera Ctrl-C is the ordinary end.
                    self._stopped_by = None if video.is_camera and isinstance(signal, KeyboardInterrupt) else signal
            stopped = self._stopped_by is not None or count == self._output.max_frames
            self._say(f"{path}: {count} frame{'s' if count != 1 else ''} looked at")
            if not stopped and video.is_cut:
                self._skip(path, f"{path} ends after {video.seen} of {video.count} frames: it is damaged", "cut short")

    def _frame(self, frame: Frame, path: str, name: str) -> Found:
        self._number += 1
        found, _ = self._find(frame.image, path)
        found = dataclasses.replace(found, frame=frame.number, time=round(frame.time, 3))
        self._write(found, f"{name}_{frame.number:06d}", None)
        return found

    @contextlib.contextmanager
    def _drawn(self, picture: str, rate: float | None) -> Iterator[VideoWriter | None]:
        """A writer of the annotated video, whose file gets its name at the end; None where none is wanted."""
        if not self._output.pictures:
            yield None
            return
        with replacing(picture) as temporary:
            with contextlib.closing(VideoWriter(temporary, rate)) as writer:
                yield writer
            self._num_videos += 1

    @contextlib.contextmanager
    def _json_lines(self, name: str) -> Iterator[TextIO]:
        path = os.path.join(self._output.folder, f"{name}.jsonl")
        with replacing(path) as temporary:
            with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
                yield file
        self._summary.written.append(os.path.basename(path))

    def _skip(self, path: str, why: str, what: str = "skipped") -> None:
        self._console.print(shown(one_line(f"{what}: {why}"), "yellow"), soft_wrap=True)
        self._summary.failed.append(path)

    def _say(self, line: str) -> None:
        self._console.print(shown(line), soft_wrap=True, highlight=False)


def _frame_entry(found: Found) -> dict:
    height, width = found.image.shape[:2]
    size = {"width": width, "height": height}
    return {"frame": found.frame, "time": found.time, **size, "objects": json_objects(found)}
