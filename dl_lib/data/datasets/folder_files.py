"""Image-label pairs of folders: file name patterns, split lists and several roots."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from dl_lib.config.errors import shown
from dl_lib.data.errors import DataError, MissingDataError
from dl_lib.data.files import PairedFiles, pair_files
from dl_lib.data.label_decoding import LABEL_ENDINGS
from dl_lib.data.listing import find_files, name_pattern

__all__ = ["IMAGE_ENDINGS", "PLACEHOLDER", "FilePattern", "FolderRoot", "list_roots"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PLACEHOLDER = "{name}"  # of the name in a pattern
_UNREADABLE_ENDINGS = (".gif", ".npz", ".mat", ".json", ".xml", ".txt")


@dataclass(frozen=True)
class FilePattern:
    """Pattern of file names.

    Args:
        prefix: Text before the name.
        endings: Alternative texts after the name, including the extension; letter case is ignored.
        num_fixed: Number of characters of the pattern besides the name.
    """

    prefix: str
    endings: tuple[str, ...]
    num_fixed: int

    @classmethod
    def of_images(cls, text: str) -> FilePattern:
        """Return the pattern of a text such as `{name}_sat.jpg`; without an extension, any image format matches."""
        return cls._parse(text, argument="image_pattern", extensions=IMAGE_ENDINGS, default=IMAGE_ENDINGS)

    @classmethod
    def of_labels(cls, text: str) -> FilePattern:
        """Return the pattern of a text such as `{name}_mask.png`; without an extension, only PNGs match."""
        return cls._parse(text, argument="label_pattern", extensions=LABEL_ENDINGS, default=LABEL_ENDINGS[:1])

    @classmethod
    def _parse(cls, text: str, *, argument: str, extensions: Sequence[str], default: Sequence[str]) -> FilePattern:
        if text.count(PLACEHOLDER) != 1:
            raise ValueError(
                f"{argument} must contain {PLACEHOLDER} once, such as '{PLACEHOLDER}_a{default[0]}'. "
                f"Received: {argument}={shown(text)}"
            )
        prefix, suffix = text.split(PLACEHOLDER)
        extension = os.path.splitext(f"a{suffix}")[1].lower()
        if extension in (*IMAGE_ENDINGS, *LABEL_ENDINGS, *_UNREADABLE_ENDINGS) and extension not in extensions:
            raise ValueError(
                f"{argument} must end in a supported, lossless format ({', '.join(extensions)}); convert the files. "
                f"Received: {argument}={shown(text)}"
            )
        endings = (suffix,) if extension in extensions else tuple(suffix + ending for ending in default)
        return cls(prefix, endings, num_fixed=len(prefix + suffix))

    def name_of(self, relative_path: str) -> str | None:
        """Return the name of a file; None if the file does not match."""
        match = name_pattern(self.prefix, self.endings).fullmatch(relative_path)
        return match["parent"] + match["name"] if match else None

    def find(self, folder: Path, *, exclude: Container[str] = ()) -> dict[str, str]:
        """Return the paths of the files in a folder by name, without those of `exclude`; see `find_files`."""
        return find_files(folder, prefix=self.prefix, endings=self.endings, exclude=exclude)

    def file_of(self, name: str) -> str:
        """Return a relative path of a file with a name."""
        parent, base = os.path.split(name)
        return os.path.join(parent, f"{self.prefix}{base}{self.endings[0]}")


@dataclass(frozen=True)
class FolderRoot:
    """Folders that belong together.

    Args:
        images: Image folder.
        labels: Label folder, which may be the image folder; None without ground truth.
        names: Names or image files to use; None for all.
    """

    images: Path
    labels: Path | None = None
    names: tuple[str, ...] | None = None


def list_roots(roots: Sequence[FolderRoot], *, images: FilePattern, labels: FilePattern) -> PairedFiles:
    """List the pairs of several roots. With more than one root, names start with the part of its path that differs.

    Raises:
        MissingDataError: If a root contains no images.
        DataError: If files are ambiguous, or a root contains another one.
    """
    if len(roots) == 1:
        return _list_pairs(roots[0], images=images, labels=labels)
    prefixes = _root_prefixes([root.images for root in roots])
    listed = [_list_pairs(root, images=images, labels=labels) for root in roots]
    return PairedFiles(
        tuple(
            replace(record, image_id=f"{prefix}/{record.image_id}")
            for prefix, paired in zip(prefixes, listed, strict=True)
            for record in paired.records
        ),
        without_label=_prefixed(prefixes, [paired.without_label for paired in listed]),
        without_image=_prefixed(prefixes, [paired.without_image for paired in listed]),
    )


def _list_pairs(root: FolderRoot, *, images: FilePattern, labels: FilePattern) -> PairedFiles:
    """List the pairs of one root. A file that matches both patterns is a label, unless the image pattern is longer.

    Raises:
        MissingDataError: If there are no images.
        DataError: If two files have the same name, or a listed name occurs twice.
    """
    found_images, found_labels = _find(root, images=images, labels=labels)
    if not found_images and not found_labels:
        endings = ", ".join(images.endings)
        raise MissingDataError(
            f"{root.images} contains no images (files that end in {endings}); check IMAGES and IMAGE_PATTERN of the "
            "dataset in DATASETS.FOLDERS. Received: 0 images"
        )
    if root.names == ():
        raise MissingDataError(
            f"the split list of {root.images} is empty; write one image name per line, or omit the list to use all "
            "images. Received: 0 names"
        )
    names: Iterable[str] = found_images.keys() | (found_labels or {}).keys()
    if root.names is not None:
        names = [_listed_name(line, found_images, root=root, images=images) for line in root.names]
        if repeated := [name for name, times in Counter(names).items() if times > 1]:
            raise DataError(f"the list of {root.images} must not contain an image twice. Received: {repeated[:3]}")
    return pair_files(names, images=found_images, labels=found_labels)


def _find(
    root: FolderRoot, *, images: FilePattern, labels: FilePattern
) -> tuple[dict[str, str], dict[str, str] | None]:
    if root.labels is None:
        return images.find(root.images), None
    # A file in both folders, which may be the same or contain each other, belongs to the more specific one.
    specific = (len(root.images.parts), images.num_fixed), (len(root.labels.parts), labels.num_fixed)
    if specific[0] > specific[1]:
        found_images = images.find(root.images)
        return found_images, labels.find(root.labels, exclude=set(found_images.values()))
    found_labels = labels.find(root.labels)
    return images.find(root.images, exclude=set(found_labels.values())), found_labels


def _listed_name(line: str, found: Container[str], *, root: FolderRoot, images: FilePattern) -> str:
    """Return the name in a line of a split list: a name or image file, also with the last folders of `root.images`."""
    folder = f"{os.path.abspath(root.images)}/"
    parts = line.replace("\\", "/").removeprefix("./").split("/")
    heads = ["/".join(parts[:at]).lstrip("/") for at in range(1, len(parts))]
    paths = [line, "/".join(parts)]
    paths += ["/".join(parts[at:]) for at, head in enumerate(heads, 1) if folder.endswith(f"/{head}/")]
    extensions = ["", *(os.path.splitext(f"a{ending}")[1] for ending in images.endings)]
    names = (name for path in paths for name in (path, *(images.name_of(path + extension) for extension in extensions)))
    return next((name for name in names if name in found), None) or images.name_of(line) or line


def _root_prefixes(folders: Sequence[Path]) -> list[str]:
    """Return the part of each path that differs, as a relative path without hidden folders."""
    real = [folder.resolve() for folder in folders]
    if any(first.is_relative_to(second) for first, second in permutations(real, 2)):
        names = [str(folder) for folder in folders]
        raise DataError(f"images must be different folders that do not contain each other. Received: images={names}")
    paths = [os.path.abspath(folder) for folder in folders]
    relative = [Path(path).relative_to(os.path.commonpath(paths)) for path in paths]
    return ["/".join(part.lstrip(".") or "_" for part in path.parts) for path in relative]


def _prefixed(prefixes: Sequence[str], names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(f"{prefix}/{name}" for prefix, own in zip(prefixes, names, strict=True) for name in own)
