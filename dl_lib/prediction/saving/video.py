"""Output of a video: an overlay video, and files and records of its frames; complete only after the last frame."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from dl_lib.data.errors import InvalidSampleError
from dl_lib.prediction.result import PredictedImage
from dl_lib.prediction.saving.encoding import FileFormat
from dl_lib.prediction.saving.records import VideoTotals, image_record, json_line
from dl_lib.prediction.video import file_of
from dl_lib.utils.files import PARTIAL_SUFFIX, WriteError, write_errors
from dl_lib.utils.folder_replacement import partial_folder, replace_folder

__all__ = ["VIDEO_SUFFIX", "FrameFiles", "FrameRecords", "FrameSink", "OverlayVideo", "VideoOutput"]

VIDEO_SUFFIX = ".mp4"
_CODEC = cv2.VideoWriter.fourcc(*"mp4v")  # MPEG-4 part 2: in every build of opencv with FFmpeg, and fast


class FrameSink(Protocol):
    """Destination of the frames of one video."""

    def add(self, result: PredictedImage) -> None:
        """Write the next frame."""

    def finish(self) -> None:
        """Give the complete output its name."""

    def discard(self) -> None:
        """Remove the incomplete output."""


class VideoOutput:
    """Output of one video.

    Args:
        frames_per_second: Frame rate.
        sinks: Destinations of the frames.
    """

    def __init__(self, *, frames_per_second: float, sinks: Sequence[FrameSink]) -> None:
        self._sinks = sinks
        self._totals = VideoTotals(frames_per_second=frames_per_second)

    def add(self, result: PredictedImage) -> None:
        """Write the next frame."""
        for sink in self._sinks:
            sink.add(result)
        self._totals.add(result)

    def finish(self) -> dict[str, Any]:
        """Complete the output and return the record of the video, without its name."""
        for sink in self._sinks:
            sink.finish()
        return self._totals.record()

    def discard(self) -> None:
        """Remove the incomplete output."""
        for sink in self._sinks:
            sink.discard()


class FrameFiles:
    """Folder with one file per frame, such as `000012.png`.

    Args:
        folder: Folder of the video.
        file_format: Format of the files.
    """

    def __init__(self, folder: Path, file_format: FileFormat) -> None:
        self._folder = folder
        self._partial = partial_folder(folder)
        self._format = file_format
        self._frames = 0
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def add(self, result: PredictedImage) -> None:
        path = self._partial / f"{self._frames:06d}{self._format.suffix}"
        with write_errors(path):
            path.write_bytes(self._format.encode(result))
        self._frames += 1

    def finish(self) -> None:
        replace_folder(self._folder)

    def discard(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


class FrameRecords:
    """File with one record per frame.

    Args:
        path: Output file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._frames = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial.unlink(missing_ok=True)

    def add(self, result: PredictedImage) -> None:
        with write_errors(self._path), self._partial.open("ab") as file:
            file.write(json_line({"frame": self._frames, **image_record(result)}))
        self._frames += 1

    def finish(self) -> None:
        os.replace(self._partial, self._path)

    def discard(self) -> None:
        self._partial.unlink(missing_ok=True)


class OverlayVideo:
    """Video of overlays. The codec needs even sides: an odd one gets a copy of its last row or column.

    Args:
        path: Output file, with `VIDEO_SUFFIX`.
        frames_per_second: Frame rate.
    """

    def __init__(self, path: Path, *, frames_per_second: float) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.stem}{PARTIAL_SUFFIX}{VIDEO_SUFFIX}")  # FFmpeg reads the suffix
        self._frames_per_second = frames_per_second
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, result: PredictedImage) -> None:
        frame = cv2.cvtColor(result.overlay(), cv2.COLOR_RGB2BGR)
        height, width = frame.shape[:2]
        frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            self._writer = self._open(frame, name=result.name)
        self._writer.write(frame)
        self._frames += 1

    def finish(self) -> None:
        self._release()
        if _num_frames(self._partial) != self._frames:  # opencv does not report errors of writing
            raise WriteError(errno.EIO, "the video is incomplete, the disk may be full", os.fspath(self._path))
        os.replace(self._partial, self._path)

    def discard(self) -> None:
        self._release()
        self._partial.unlink(missing_ok=True)

    def _open(self, frame: np.ndarray, *, name: str) -> cv2.VideoWriter:
        height, width = frame.shape[:2]
        with write_errors(self._path):  # opencv does not tell an unusable path from a video that it cannot encode
            self._partial.touch()
        writer = cv2.VideoWriter(os.fspath(self._partial), _CODEC, self._frames_per_second, (width, height))
        if not writer.isOpened():
            raise InvalidSampleError(
                f"{file_of(name)}: MPEG-4 cannot encode overlays of this size or frame rate; predict it without "
                f"overlays (--save labels,json). Received: height and width={(height, width)}, "
                f"frames per second={self._frames_per_second:g}"
            )
        return writer

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


def _num_frames(path: Path) -> int:
    capture = cv2.VideoCapture(os.fspath(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
