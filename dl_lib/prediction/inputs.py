"""Inputs of a predictor: images in memory, files, folders, glob patterns and videos, one image after another."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dl_lib.data.decoding import Color
from dl_lib.data.errors import DataError, MissingDataError
from dl_lib.prediction.pixels import Pixels, as_rgb, read_rgb
from dl_lib.prediction.video import VIDEO_SUFFIXES, Video, is_video

__all__ = ["ImageInput", "ImageSource", "OnError", "find_files", "image_inputs", "is_single"]

OnError = Callable[[str, DataError], None]  # with the name of an input
ImageSource = Any  # array, tensor, PIL image, path, folder, glob pattern, video, or an iterable of these


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
    """Return whether an input is one image, not several."""
    if isinstance(source, str | os.PathLike):
        return os.path.isfile(source) and not is_video(source)
    return isinstance(source, np.ndarray | Tensor | Image.Image)


def image_inputs(source: ImageSource, *, background: Color, on_error: OnError | None = None) -> Iterator[ImageInput]:
    """Yield the images of an input in its order; files are read when an image is loaded, videos frame by frame.

    Args:
        source: What a `Predictor` accepts.
        background: Color behind transparent pixels.
        on_error: Function that is called with the name and error of a missing file or a damaged video, which is then
            omitted; None raises the error.

    Raises:
        DataError: If a file is missing or a video damaged.
        TypeError: If an input has another type.
    """
    for position, item in enumerate(_items(source)):
        if not isinstance(item, str | os.PathLike):
            name = f"{position}"
            yield ImageInput(name, partial(as_rgb, item, name=f"image {name}", background=background))
            continue
        with _reported(os.fspath(item), on_error):
            for path in find_files(item):
                with _reported(os.fspath(path), on_error):
                    yield from _images_of(path, background=background)


def find_files(text: str | os.PathLike[str]) -> list[Path]:
    """Return the images and videos of a file, folder or glob pattern, sorted.

    Folders are searched with their subfolders, without hidden ones and without links to folders; files count if they
    have the suffix of an image or video. A file that is named itself needs no such suffix.

    Raises:
        MissingDataError: If there is none.
    """
    path = os.fspath(text)
    if os.path.isdir(path):
        found = sorted(_files_in(path))
        hint = f"the folder and its subfolders contain no file with a suffix such as .jpg, .png or {VIDEO_SUFFIXES[4]}"
    elif os.path.lexists(path):
        return [Path(path)]
    else:
        matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
        found = [Path(match) for match in matches if os.path.isfile(match)]
        hint = "no such file or folder" if not glob.has_magic(path) else "no file matches this pattern"
    if not found:
        raise MissingDataError(f"{hint}; check the path. Received: input={path!r}")
    return found


def _items(source: ImageSource) -> Iterator[Any]:
    """Yield the images in memory and the paths of an input."""
    if is_single(source) or isinstance(source, str | os.PathLike):
        yield source
    elif isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | dict):
        for item in source:
            yield from _items(item)
    else:
        raise TypeError(
            "an input must be an array, tensor, PIL image, path, folder, glob pattern, video, or an iterable of these. "
            f"Received: {type(source).__name__}"
        )


def _images_of(path: Path, *, background: Color) -> Iterator[ImageInput]:
    if not is_video(path):
        yield ImageInput(os.fspath(path), partial(read_rgb, path, background=background))
        return
    for number, frame in enumerate(Video.open(path).frames()):
        yield ImageInput(f"{path}#{number}", partial(_same, frame))


@contextmanager
def _reported(name: str, on_error: OnError | None) -> Iterator[None]:
    """Give the data errors of an input to `on_error`, if there is one."""
    try:
        yield
    except DataError as error:
        if on_error is None:
            raise
        on_error(name, error)


def _same(frame: Pixels) -> Pixels:
    return frame


def _files_in(folder: str) -> Iterator[Path]:
    for current, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if os.path.splitext(name)[1].lower() in _suffixes() and not name.startswith("."):
                yield Path(current, name)


@cache
def _suffixes() -> frozenset[str]:
    """Return the suffixes of images that Pillow reads, and of videos."""
    readable = (suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN)
    return frozenset({*readable, *VIDEO_SUFFIXES} - {".pdf"})
