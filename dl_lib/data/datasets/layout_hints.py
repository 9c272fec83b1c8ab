"""Patterns of image and label files, inferred from the names of the existing files."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dl_lib.data.datasets.folder_files import IMAGE_ENDINGS, PLACEHOLDER, FilePattern, FolderRoot
from dl_lib.data.files import evenly_spaced
from dl_lib.data.label_decoding import LABEL_ENDINGS
from dl_lib.data.listing import list_files

__all__ = ["FilePatterns", "infer_patterns", "pattern_hint"]

_MAX_IMAGES = 500  # images whose names are compared with those of all labels
_SUFFIX_START = re.compile(r"(?=[_\-. ])|(?<=\d)(?=[A-Za-z])")  # x_mask, 12mask
_PREFIX_END = re.compile(r"(?<=[_\-. ])|(?<=[A-Za-z])(?=\d)")  # mask_x, mask12
_LABEL_WORD = re.compile(r"mask|label|gt|seg|anno|target|truth|trimap", re.IGNORECASE)
_LABEL_EXTENSIONS = {*IMAGE_ENDINGS, *LABEL_ENDINGS, ".gif"}
_Form = tuple[str, str, str]  # text before the common part of a pair's names, text after it, extension


@dataclass(frozen=True)
class FilePatterns:
    """Patterns that pair most images with a label.

    Attributes:
        images: Pattern of the image files, such as `{name}_sat.jpg`.
        labels: Pattern of the label files, such as `{name}_mask.png`.
    """

    images: str
    labels: str

    @property
    def labels_are_readable(self) -> bool:
        """True if the labels have a supported, lossless format."""
        return self.labels.lower().endswith(LABEL_ENDINGS)

    def equal(self, images: FilePattern, labels: FilePattern) -> bool:
        """Return whether the given patterns find the same names."""
        name, image = "name", FilePattern.of_images(self.images)
        image_name = images.name_of(image.prefix + name + image.endings[0])
        return (image_name, labels.name_of(self.labels.replace(PLACEHOLDER, name))) == (name, name)


def infer_patterns(root: FolderRoot) -> FilePatterns | None:
    """Return the patterns of the files in an image folder and a label folder; None if no names belong together."""
    if root.labels is None:
        return None
    forms = Counter[tuple[_Form, _Form]]()
    labels = _forms_by_key(path for path, _ in list_files(root.labels) if _extension(path) in _LABEL_EXTENSIONS)
    images = [path for path, _ in list_files(root.images) if _extension(path) in IMAGE_ENDINGS]
    same_folder = os.path.samefile(root.images, root.labels)
    for key, image_forms in _forms_by_key(evenly_spaced(images, limit=_MAX_IMAGES)).items():
        for label in labels.get(key, ()):
            forms.update((image, label) for image in image_forms if not same_folder or _is_pair(image, label))
    if not forms:
        return None
    image, label = max(forms, key=lambda pair: (forms[pair], -_length(pair), pair))
    has_affix = bool(image[0] or image[1])  # otherwise, the default pattern finds all images
    extension = image[2] if has_affix and same_folder else ""
    return FilePatterns(f"{image[0]}{PLACEHOLDER}{image[1]}{extension}", f"{label[0]}{PLACEHOLDER}{''.join(label[1:])}")


def pattern_hint(root: FolderRoot, *, images: FilePattern, labels: FilePattern) -> str:
    """Return a sentence on the patterns to set instead of the current ones, starting with a space, or an empty text."""
    found = infer_patterns(root)
    if found is None or found.equal(images, labels):
        return ""
    extension = _extension(found.labels)
    if not found.labels_are_readable:
        return f" Labels exist as {extension}: not read; create them again as PNG or another lossless format."
    reason = "Images and labels have other names" if extension == ".png" else f"Labels exist as {extension}: not read"
    image_setting = "" if found.images == PLACEHOLDER else f" and IMAGE_PATTERN to '{found.images}'"
    return f" {reason}; set LABEL_PATTERN to '{found.labels}'{image_setting}."


def _forms_by_key(paths: Iterable[str]) -> dict[str, list[_Form]]:
    """Return all ways to split each file name into text before, key and text after, by folder and key."""
    forms: defaultdict[str, list[_Form]] = defaultdict(list)
    for path in paths:
        if PLACEHOLDER in path:
            continue
        folder, name = os.path.split(path)
        stem, extension = os.path.splitext(name)
        for before, key, after in _splits(stem):
            forms[f"{folder}/{key}"].append((before, after, extension))
    return forms


def _splits(stem: str) -> Iterator[tuple[str, str, str]]:
    yield "", stem, ""
    inside = range(1, len(stem))
    yield from (("", stem[:at], stem[at:]) for at in inside if _SUFFIX_START.match(stem, at))
    yield from ((stem[:at], stem[at:], "") for at in inside if _PREFIX_END.match(stem, at))


def _is_pair(image: _Form, label: _Form) -> bool:
    """Return whether the first of two files in one folder can be the image and the second its label."""
    if image == label:
        return False
    is_label = [bool(_LABEL_WORD.search(form[0] + form[1])) for form in (image, label)]
    if is_label[0] != is_label[1]:
        return is_label[1]
    return image[2].lower() not in LABEL_ENDINGS or not (image[0] or image[1])


def _length(pair: tuple[_Form, _Form]) -> int:
    return sum(len(before) + len(after) for before, after, _ in pair)


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()
