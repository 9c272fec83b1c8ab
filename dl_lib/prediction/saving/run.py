"""Prediction of files into an output folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from dl_lib.data.errors import DataError
from dl_lib.prediction.predictor import Predictor
from dl_lib.prediction.result import PredictedImage
from dl_lib.prediction.saving.names import output_name
from dl_lib.prediction.saving.writer import OutputWriter
from dl_lib.prediction.video import Video, file_of, is_video
from dl_lib.utils.escaping import printable

__all__ = ["FilePrediction", "count_images"]

_DEFAULT_FRAME_RATE = 25.0  # of videos that do not state theirs

_log = logging.getLogger(__name__)


class FilePrediction:
    """Prediction of files; unreadable ones are logged and counted.

    Args:
        writer: Writer into the output folder.
        relative_to: Folder of the inputs, see `common_folder`.

    Attributes:
        num_images: Images and frames that were predicted.
        num_failed: Files that were not.
    """

    def __init__(self, writer: OutputWriter, *, relative_to: Path) -> None:
        self.num_images = 0
        self.num_failed = 0
        self._writer = writer
        self._relative_to = relative_to
        self._gflops = 0.0
        self._failed: set[str] = set()

    @property
    def mean_gflops(self) -> float:
        """Mean real cost of an image in GFLOPs; 0 if no cost is known."""
        return self._gflops / self.num_images if self.num_images else 0.0

    def pending(self, files: Iterable[Path]) -> list[Path]:
        """Return the files whose output is not complete, each once; those without a usable name fail."""
        found: dict[str, Path] = {}
        for path in files:
            try:
                name = self._name(path)
            except DataError as error:
                self._report(str(path), error)
                continue
            if name not in found and not self._writer.is_complete(name):
                found[name] = path
        return list(found.values())

    def run(self, predictor: Predictor, files: Sequence[Path], *, bar: tqdm) -> None:
        """Predict and write files in their order.

        Raises:
            WriteError: If an output cannot be written.
        """

        def report(name: str, error: DataError) -> None:
            self._report(name, error)
            bar.update()

        with closing(predictor(iter(files), on_error=report)) as results:
            for path, of_file in groupby(self._counted(results, bar=bar), key=lambda result: file_of(result.name)):
                try:
                    self._write(path, of_file)
                except DataError as error:
                    self._report(path, error)

    def _counted(self, results: Iterable[PredictedImage], *, bar: tqdm) -> Iterator[PredictedImage]:
        for result in results:
            yield result
            self.num_images += 1
            if "real" in result.gflops:
                self._gflops += result.gflops["real"]
                bar.set_postfix_str(f"{self.mean_gflops:.3g} GFLOPs", refresh=False)
            bar.update()

    def _write(self, path: str, results: Iterable[PredictedImage]) -> None:
        name = self._name(path)
        if not is_video(path):
            for result in results:
                self._writer.write(name, result)
            return
        rate = Video.open(path).frames_per_second or _DEFAULT_FRAME_RATE
        with self._writer.video(name, frames_per_second=rate) as video:
            for result in results:
                video.add(result)

    def _name(self, path: str | Path) -> str:
        return output_name(path, relative_to=self._relative_to)

    def _report(self, name: str, error: DataError) -> None:
        if file_of(name) in self._failed:  # by an earlier frame
            return
        self._failed.add(file_of(name))
        self.num_failed += 1
        problem = re.sub(rf"^{re.escape(name)}(:| is)? ", "", str(error))
        _log.warning("Skipped %s: %s", printable(name), problem)


def count_images(files: Iterable[Path]) -> int:
    """Return the number of images, and of frames that the headers of videos state; damaged videos count as 1."""
    return sum(_num_frames(path) if is_video(path) else 1 for path in files)


def _num_frames(path: Path) -> int:
    try:
        return max(1, Video.open(path).num_frames)
    except DataError:
        return 1
