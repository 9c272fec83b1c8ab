"""Writer of predictions into an output folder, and what is complete there.

Files of images are written atomically but without fsync, which can take longer than a small network: after a power
failure, empty files are predicted again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dl_lib.data.errors import InvalidSampleError
from dl_lib.prediction.result import PredictedImage
from dl_lib.prediction.saving.encoding import FILE_FORMATS
from dl_lib.prediction.saving.kinds import OVERLAYS, RECORDS
from dl_lib.prediction.saving.records import FILE, image_record, json_line, parse_line
from dl_lib.prediction.saving.video import (
    VIDEO_SUFFIX,
    FrameFiles,
    FrameRecords,
    FrameSink,
    OverlayVideo,
    VideoOutput,
)
from dl_lib.prediction.video import is_video
from dl_lib.utils.files import open_atomically, write_atomically, write_errors

__all__ = ["RECORDS_NAME", "OutputWriter"]

RECORDS_NAME = "predictions.jsonl"  # one line per input
_TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_FRAMES_NAME = "frames"  # folder with a file of records for each video


class OutputWriter:
    """Writer of predictions: `labels/NAME.png`, `overlays/NAME.jpg`, … and a line of predictions.jsonl per input.

    A video has a folder of its frames in place of a file, `overlays/NAME.mp4`, and `frames/NAME.jsonl` with a line per
    frame. The line of an input is written last, after its other files are complete.

    Args:
        folder: Output folder, which exists.
        formats: What is saved, of `FORMATS`.
    """

    def __init__(self, folder: Path, *, formats: Sequence[str]) -> None:
        self._folder = folder
        self._file_formats = {name: FILE_FORMATS[name] for name in FILE_FORMATS if name in formats}
        self._has_records = RECORDS in formats
        self._recorded: set[str] = set()

    def resume(self) -> None:
        """Keep the records of complete inputs only: without damaged lines, and those whose files are missing."""
        path = self._folder / RECORDS_NAME
        if not (self._has_records and path.exists()):
            return
        with path.open("rb") as lines, open_atomically(path) as kept:
            for line in lines:
                name = parse_line(line)
                if name is not None and name not in self._recorded and self._has_files(name):
                    self._recorded.add(name)
                    kept.write(line)

    def is_complete(self, name: str) -> bool:
        """Return whether everything was written for an input before."""
        return self._has_files(name) and (name in self._recorded or not self._has_records)

    def write(self, name: str, result: PredictedImage) -> None:
        """Write an image.

        Args:
            name: Name of the input, see `output_name`.
            result: Its prediction.

        Raises:
            InvalidSampleError: If another input has a file with the name of a folder of this one, or the reverse.
            WriteError: If a file cannot be written.
        """
        with _conflicts_as_data_errors(name):
            for kind, file_format in self._file_formats.items():
                write_atomically(self._image_path(kind, name), file_format.encode(result), durable=False)
        self._record({FILE: name, **image_record(result)})

    @contextmanager
    def video(self, name: str, *, frames_per_second: float) -> Iterator[VideoOutput]:
        """Context manager that yields the output of a video, which is complete at the end; removed after an error.

        Raises:
            InvalidSampleError: As in `write`.
            WriteError: If a file cannot be written.
        """
        sinks: list[FrameSink] = []
        output = VideoOutput(frames_per_second=frames_per_second, sinks=sinks)
        with _conflicts_as_data_errors(name):
            try:
                sinks.extend(self._sinks(name, frames_per_second))
                yield output
                record = output.finish()
            except BaseException:
                output.discard()
                raise
        self._record({FILE: name, **record})

    def _sinks(self, name: str, frames_per_second: float) -> Iterator[FrameSink]:
        for kind, file_format in self._file_formats.items():
            path = self._video_path(kind, name)
            if kind == OVERLAYS:
                yield OverlayVideo(path, frames_per_second=frames_per_second)
            else:
                yield FrameFiles(path, file_format)
        if self._has_records:
            yield FrameRecords(self._folder / _FRAMES_NAME / f"{name}.jsonl")

    def _record(self, record: Mapping[str, Any]) -> None:
        if self._has_records:
            path = self._folder / RECORDS_NAME
            with write_errors(path), path.open("ab") as file:
                file.write(json_line(record))

    def _has_files(self, name: str) -> bool:
        if not is_video(name):
            return all(_has_content(self._image_path(kind, name)) for kind in self._file_formats)
        paths = {kind: self._video_path(kind, name) for kind in self._file_formats}
        return all(_has_content(path) if kind == OVERLAYS else path.is_dir() for kind, path in paths.items())

    def _image_path(self, kind: str, name: str) -> Path:
        return self._folder / kind / f"{name}{FILE_FORMATS[kind].suffix}"

    def _video_path(self, kind: str, name: str) -> Path:
        return self._folder / kind / (f"{name}{VIDEO_SUFFIX}" if kind == OVERLAYS else name)


@contextmanager
def _conflicts_as_data_errors(name: str) -> Iterator[None]:
    """Context manager for the files of one input, which may need a name that those of another input have."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise InvalidSampleError(
            f"{name}: the output of another input has the name of a file or folder of this output, as for a.png and "
            f"a.png.png/x.png; rename the input. Received: path={error.filename!r}"
        ) from error


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
