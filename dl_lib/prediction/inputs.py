"""Inputs of a predictor: images in memory, files, folders, glob patterns and videos, one image after another."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageFile
from torch import Tensor

from dl_lib.data.catalog import Color
from dl_lib.data.errors import DataError, MissingDataError
from dl_lib.data.listing import list_files
from dl_lib.prediction.pixels import Pixels, as_rgb, read_rgb
from dl_lib.prediction.video import VIDEO_SUFFIXES, Video, frame_name, is_video

__all__ = ["ImageInMemory", "ImageInput", "ImageSource", "OnError", "find_files", "image_inputs", "is_single"]

OnError = Callable[[str, DataError], None]  # with the name of an input
ImageInMemory = np.ndarray | Tensor | Image.Image
ImageSource = Any  # array, tensor, PIL image, path, folder, glob pattern, video, or an iterable of these

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageInput:
    """Image to predict.

    Attributes:
        name: Path of its file, with the number of the frame for a video; position in the input for others.
        load: Function that returns the image (H, W, 3), uint8 RGB, or raises a DataError.
    """

    name: str
    load: Callable[[], Pixels]


def is_single(source: ImageSource) -> bool:
    """Return whether an input is one image, not several; a missing file is one."""
    if not isinstance(source, str | os.PathLike):
        return isinstance(source, ImageInMemory)
    if os.path.isdir(source) or is_video(source):
        return False
    return os.path.lexists(source) or not glob.has_magic(os.fspath(source))


def image_inputs(source: ImageSource, *, background: Color) -> Iterator[ImageInput]:
    """Return the images of an input in its order; files are read when an image is loaded, videos frame by frame.

    Missing files, folders without images and damaged videos are inputs as well, whose `load` raises the error.

    Args:
        source: What a `Predictor` accepts.
        background: Color behind transparent pixels.

    Raises:
        TypeError: If an input has another type: at the call, or later for one of an iterable.
    """
    _check_type(source)
    return _inputs(source, background=background)


def _inputs(source: ImageSource, *, background: Color) -> Iterator[ImageInput]:
    for position, item in enumerate(_items(source)):
        if isinstance(item, str | os.PathLike):
            yield from _file_inputs(item, background=background)
        else:
            name = f"{position}"
            yield ImageInput(name, partial(as_rgb, item, name=f"image {name}", background=background))


def find_files(text: str | os.PathLike[str]) -> list[Path]:
    """Return the images and videos of a file, folder or glob pattern, sorted.

    Folders are searched with their subfolders, as `list_files` does. Their files without the suffix of an image or
    video are skipped with a warning; a file that is named itself needs no such suffix.

    Raises:
        MissingDataError: If there is no image or video.
        UnreadableFileError: If a folder cannot be listed.
    """
    path = os.fspath(text)
    if os.path.isdir(path):
        found = _files_in(path)
        hint = "the folder and its subfolders contain no file with a suffix such as .jpg, .png or .mp4"
    elif os.path.lexists(path):
        return [Path(path)]
    else:
        found = _matching_files(path)
        hint = "no file matches this pattern" if glob.has_magic(path) else "no such file or folder"
    if not found:
        raise MissingDataError(f"{hint}; check the path. Received: input={path!r}")
    return sorted(found)


def _items(source: ImageSource) -> Iterator[Any]:
    """Yield the images in memory and the paths of an input."""
    _check_type(source)
    if isinstance(source, str | os.PathLike | ImageInMemory):
        yield source
    else:
        for item in source:
            yield from _items(item)


def _check_type(source: ImageSource) -> None:
    is_accepted = isinstance(source, os.PathLike | ImageInMemory | Iterable)  # a str is iterable
    if not is_accepted or isinstance(source, bytes | bytearray | dict):
        raise TypeError(
            "an input must be an array, tensor, PIL image, path, folder, glob pattern, video, or an iterable of these. "
            f"Received: {type(source).__name__}"
        )


def _file_inputs(item: str | os.PathLike[str], *, background: Color) -> Iterator[ImageInput]:
    try:
        paths = find_files(item)
    except DataError as error:
        yield ImageInput(os.fspath(item), partial(_fail, error))
        return
    for path in paths:
        if is_video(path):
            yield from _frame_inputs(path)
        else:
            yield ImageInput(os.fspath(path), partial(read_rgb, path, background=background))


def _frame_inputs(path: Path) -> Iterator[ImageInput]:
    try:
        for number, frame in enumerate(Video.open(path).frames()):
            yield ImageInput(frame_name(path, number), partial(_same, frame))
    except DataError as error:
        yield ImageInput(os.fspath(path), partial(_fail, error))


def _same(frame: Pixels) -> Pixels:
    return frame


def _fail(error: DataError) -> NoReturn:
    raise error


def _files_in(folder: str) -> list[Path]:
    """Return the images and videos of a folder and its subfolders."""
    files = [Path(file) for _, file in list_files(Path(folder))]
    found = [file for file in files if file.suffix.lower() in _suffixes()]
    skipped = [file for file in files if file.suffix.lower() not in _suffixes()]
    if len(skipped) == 1:
        _log.warning("Ignored 1 file that is neither an image nor a video by its suffix: %s", skipped[0])
    elif skipped:
        _log.warning(
            "Ignored %d files in %s that are neither images nor videos by their suffix, such as %s",
            len(skipped),
            folder,
            skipped[0],
        )
    return found


def _matching_files(pattern: str) -> list[Path]:
    """Return the files that match a glob pattern, each once although links may form a cycle."""
    matches = sorted(glob.glob(pattern, recursive=True), key=lambda match: match.count(os.sep))
    files: dict[str, Path] = {}
    for match in filter(os.path.isfile, matches):
        folder, name = os.path.split(match)
        files.setdefault(os.path.join(os.path.realpath(folder), name), Path(match))
    return list(files.values())


@cache
def _suffixes() -> frozenset[str]:
    """Return the suffixes of images that Pillow decodes, and of videos."""
    extensions = Image.registered_extensions()  # imports the readers
    stubs = {reader.format for reader in ImageFile.StubImageFile.__subclasses__()}  # which decode nothing
    readable = (suffix for suffix, name in extensions.items() if name in {*Image.OPEN} - stubs)
    return frozenset((*readable, *VIDEO_SUFFIXES))
