"""Videos and cameras by OpenCV: frames in, drawn frames out."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tfdet.data.image_limits import size_fault
from tfdet.data.listing import ending
from tfdet.errors import UserError
from tfdet.files import irregular

VIDEO_ENDINGS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts", ".m2ts",
    ".ogv", ".mjpeg", ".mjpg",
)  # fmt: skip
"""How the names of videos end, in lower case."""

_CAMERA = re.compile(r"camera:(\d{1,3})")
_MEASURED = 6  # frames whose rate is that of a camera's video
_RATE = 25.0  # frames a second, where the source does not say it


class Frame(NamedTuple):
    """One picture of a video."""

    image: np.ndarray  # uint8 [H, W, 3], RGB
    number: int  # from 0, of the video
    time: float  # seconds from its beginning


def is_camera(source: object) -> bool:
    """Whether it is `camera:0`, `camera:1`, ..."""
    return isinstance(source, str) and _CAMERA.fullmatch(source) is not None


def is_video(source: object) -> bool:
    """Whether it is a camera, or a path that ends as videos do."""
    return is_camera(source) or isinstance(source, (str, os.PathLike)) and ending(os.fspath(source)) in VIDEO_ENDINGS


class Video:
    """The frames of a video file or a camera; close it, or use it in a `with`.

    Args:
        source: path of a file, or `camera:0`.
        max_pixels: most pixels of a frame, height times width.

    Attributes:
        name: `source`, for messages.
        rate: frames a second.
        count: of the frames, as the file says it, which is not always true; None: it does not, or a camera.
        seen: frames that were read so far.

    Raises:
        UserError: there is no OpenCV, or it cannot open the source.
    """

    def __init__(self, source: str | os.PathLike, max_pixels: int):
        cv2 = _opencv()
        self.name = os.fspath(source)
        self.is_camera = is_camera(source)
        if not self.is_camera:
            self._check_file()
        self._cv2, self._max_pixels = cv2, max_pixels
        number = int(self.name.partition(":")[2]) if self.is_camera else None
        self._capture = cv2.VideoCapture(self.name if number is None else number)
        if not self._capture.isOpened():
            self._capture.release()
            why = "is there one, and may you read it (/dev/video*)?" if self.is_camera else "it is no video, or damaged"
            raise UserError(f"cannot open {'the ' if self.is_camera else 'video '}{self.name}: {why}")
        rate, count = (self._capture.get(what) for what in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = float(rate) if 0 < rate <= 1000 else _RATE
        self.count = int(count) if 0 < count < 2**31 and not self.is_camera else None
        self.seen = 0
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(self._capture.get(side)) for side in sides)
        if fault := size_fault(width, height, max_pixels):
            self.close()
            raise UserError(f"cannot read video {self.name}: its frames: {fault}")

    def _check_file(self) -> None:
        try:
            kind = irregular(os.stat(self.name).st_mode)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no file can have this name"
            raise UserError(f"cannot open video {self.name}: {why}") from None
        if kind is not None:
            raise UserError(f"cannot open video {self.name}: is a {kind}, not a file")

    def frames(self, stride: int = 1) -> Iterator[Frame]:
        """Every `stride`-th frame, from the first on, turned upright; frames between are not decoded to pixels."""
        begun = time.monotonic()
        while True:
            number = self.seen
            if not self._capture.grab():
                return
            self.seen += 1
            if number % stride:
                continue
            good, pixels = self._capture.retrieve()
            if not good or pixels is None:
                continue
            if self.is_camera:
                seconds = time.monotonic() - begun
            else:  # of a variable rate the file knows better
                stamp = float(self._capture.get(self._cv2.CAP_PROP_POS_MSEC)) / 1000
                seconds = stamp if stamp > 0 else number / self.rate
            if pixels.ndim == 2:
                pixels = np.repeat(pixels[..., None], 3, axis=2)
            yield Frame(np.ascontiguousarray(pixels[..., 2::-1]), number, seconds)

    @property
    def is_cut(self) -> bool:
        """Whether it ended long before its own count of frames."""
        return self.count is not None and self.seen < 0.9 * self.count

    def close(self) -> None:
        """Gives the file or the camera back."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class VideoWriter:
    """Writes frames of one size to an MP4 file (MPEG-4 part 2, which every OpenCV has).

    Args:
        path: the file, which is written in place: hand in a temporary name.
        rate: frames a second; None: as fast as the first few come, of a camera whose frames wait for the detector.
    """

    def __init__(self, path: str | os.PathLike, rate: float | None):
        self._cv2, self._path, self._rate = _opencv(), os.fspath(path), rate
        self._writer: Any = None
        self._size: tuple[int, int] = (0, 0)
        self._waiting: list[tuple[np.ndarray, float]] = []

    def add(self, image: np.ndarray, seconds: float) -> None:
        """One frame; one of another size than the first is resized.

        Args:
            image: uint8 [H, W, 3], RGB.
            seconds: from the video's beginning.

        Raises:
            UserError: the file cannot be written.
        """
        if self._rate is None:
            self._waiting.append((image, seconds))
            if len(self._waiting) > _MEASURED:
                self._begin()
            return
        self._write(image)

    def close(self) -> None:
        """Writes what is left."""
        if self._waiting:
            self._begin()
        if self._writer is not None:
            self._writer.release()

    def _begin(self) -> None:
        """The rate is that of the frames behind the first, which waited for the detector's graph."""
        times = [seconds for _, seconds in self._waiting][-_MEASURED:]
        span = times[-1] - times[0]
        self._rate = min(max((len(times) - 1) / span, 0.5), 120.0) if span > 0 else _RATE
        waiting, self._waiting = self._waiting, []
        for image, _ in waiting:
            self._write(image)

    def _write(self, image: np.ndarray) -> None:
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            code = self._cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = self._cv2.VideoWriter(self._path, code, self._rate, self._size)
            if not self._writer.isOpened():
                raise UserError(f"cannot write the video {self._path}: is there space, and may you write there?")
        if image.shape[1::-1] != self._size:
            image = self._cv2.resize(image, self._size)
        self._writer.write(np.ascontiguousarray(image[..., ::-1]))


def _opencv() -> Any:
    # Its own words on stderr, which a damaged file provokes, are replaced by one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"{error}: pip install 'tfdet[video]' installs what videos and cameras need") from error
    return cv2
