"""Frames of video files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.prediction.pixels import Pixels

__all__ = ["VIDEO_SUFFIXES", "Video", "file_of", "frame_name", "is_video"]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_MAX_FRAME_RATE = 1000  # per second; headers of damaged videos state more
_MAX_MISSING = 2  # frames, because their number in the header is an estimate

_log = logging.getLogger(__name__)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a video by its suffix."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def frame_name(path: str | os.PathLike[str], number: int) -> str:
    """Return the name of a frame, such as `clip.mp4#12`."""
    return f"{os.fspath(path)}#{number}"


def file_of(name: str) -> str:
    """Return the file of an image or of a frame with a name of `frame_name`."""
    path, _, number = name.rpartition("#")
    return path if number.isdecimal() and is_video(path) else name


@dataclass(frozen=True)
class Video:
    """Video file.

    Attributes:
        path: Path of the file.
        frames_per_second: Frame rate; 0 if the file states none, or an implausible one.
        num_frames: Number of frames that the file states, an estimate; 0 if it states none.
    """

    path: Path
    frames_per_second: float
    num_frames: int

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Video:
        """Read the header of a video.

        Raises:
            MissingDataError: If the file does not exist, or is not a regular file.
            UnreadableFileError: If it cannot be decoded.
        """
        with _capture(path) as capture:
            rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return cls(Path(path), rate if 0 < rate <= _MAX_FRAME_RATE else 0.0, max(0, int(count)))

    def frames(self) -> Iterator[Pixels]:
        """Yield the frames (H, W, 3), uint8 RGB, one after another.

        A truncated video ends early, with a warning. It is no error, because the number of frames that the file states
        is an estimate from its duration in some formats.

        Raises:
            UnreadableFileError: If there is no frame.
        """
        with _capture(self.path) as capture:
            found, frame = capture.read()
            if not found:
                raise UnreadableFileError(f"{self.path} has no frame that OpenCV can decode. Received: 0 frames")
            number = 0
            while found:
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                number += 1
                found, frame = capture.read()
        if number < self.num_frames - _MAX_MISSING:
            _log.warning(
                "%s: decoded %d frames of the %d that its header states; the file may be truncated",
                self.path,
                number,
                self.num_frames,
            )


@contextmanager
def _capture(path: str | os.PathLike[str]) -> Iterator[cv2.VideoCapture]:
    if not os.path.isfile(path):
        raise MissingDataError(
            f"a video must be a regular file that exists; check the path. Received: path={os.fspath(path)!r}"
        )
    capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UnreadableFileError(
                f"{path} is not a video that OpenCV can decode, or is damaged; convert it to MP4 with H.264. "
                f"Received: {os.path.getsize(path)} bytes"
            )
        yield capture
    finally:
        capture.release()
