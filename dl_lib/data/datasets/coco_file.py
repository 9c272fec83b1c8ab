"""COCO annotation files (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from json import loads
from operator import itemgetter
from pathlib import Path
from posixpath import normpath
from typing import Any, TypeVar

from dl_lib.data.datasets.coco_entries import EntryId, flag, identifier, parse_entries, required, side, text
from dl_lib.data.datasets.coco_regions import Region, check_region, is_normalized
from dl_lib.data.errors import DataError, UnreadableFileError
from dl_lib.data.reading import read_bytes
from dl_lib.utils.names import is_safe_id

__all__ = ["CocoFile", "CocoImage", "read_coco", "read_coco_classes"]

_PARTS = ("images", "annotations", "categories")
_MAX_PIXELS = 2**31 - 1  # of an image
_MAX_SHOWN = 3  # ids per error message
_PART_OF = {"image_id": "images", "category_id": "categories"}
_FOREIGN_KEYS = {  # keys of annotations in other formats
    "caption": "; captions have no regions: use the file of instances or stuff",
    "segments_info": "; convert panoptic annotations with panopticapi (panoptic2detection_coco_format.py)",
}

Parsed = TypeVar("Parsed")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CocoImage:
    """Image and its annotations."""

    image_id: str
    file_name: str  # relative to the image folder
    height: int  # pixels, like the width
    width: int
    regions: list[Region] = field(default_factory=list)  # in the order of the file


@dataclass(frozen=True)
class CocoFile:
    """Content of an annotation file, sorted by id, including categories and images without annotations."""

    class_names: tuple[str, ...]
    images: tuple[CocoImage, ...]


def read_coco(path: Path, *, background: str | None, crowd_label: int) -> CocoFile:
    """Read an annotation file and check all of its entries.

    Args:
        path: Existing file.
        background: Name of the class of pixels without annotation, label 0; None numbers the categories from 0. A
            category of this name, apart from letter case and surrounding underscores, becomes this class.
        crowd_label: Label of crowds.

    Raises:
        UnreadableFileError: If the file is not JSON or not in COCO format.
        DataError: If an entry is invalid, an id occurs twice, or an annotation refers to an unknown image or category.
    """
    content = _load(path)
    with _errors_naming(path):
        class_names, labels = _number_classes(content["categories"], background=background)
        images = _by_id("images", parse_entries("images", content["images"], _image))
        _check_unique_files(images.values())
        _add_regions(content["annotations"], images=images, labels=labels, crowd_label=crowd_label)
    return CocoFile(class_names, tuple(images.values()))


def read_coco_classes(path: Path, *, background: str | None) -> tuple[str, ...]:
    """Read only the class names of an annotation file, with the arguments and errors of `read_coco`."""
    content = _load(path)
    with _errors_naming(path):
        return _number_classes(content["categories"], background=background)[0]


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _load(path: Path) -> dict[str, list[Any]]:
    data = read_bytes(path)
    try:
        content = loads(data)
    except ValueError as error:
        raise UnreadableFileError(f"{path} is damaged or not a JSON file. Received: {error}") from error
    except RecursionError:
        raise UnreadableFileError(
            f"{path} is not in COCO format: its values are nested too deeply. Received: RecursionError"
        ) from None
    hint = _hint(content)
    if isinstance(content, dict) and all(isinstance(content.get(part), list) for part in _PARTS) and not hint:
        return content
    received = sorted(content) if isinstance(content, dict) else type(content).__name__
    raise UnreadableFileError(
        f"{path} is not in COCO format. Expected an object with the lists {', '.join(_PARTS)}{hint}. "
        f"Received: {received!s:.200}"
    )


def _hint(content: Any) -> str:
    """Return the known format that the content has instead, to append to a sentence; else an empty text."""
    if isinstance(content, list):
        return "; a list is the format of predictions, not of annotations"
    if not isinstance(content, dict):
        return ""
    if any(isinstance(value, dict) and value.keys() & set(_PARTS) for value in content.values()):
        return ", not nested in another object"
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    return next((hint for key, hint in _FOREIGN_KEYS.items() if isinstance(first, dict) and key in first), "")


def _category(entry: Mapping[str, Any]) -> tuple[EntryId, str]:
    return identifier(entry, "id"), text(entry, "name")


def _image(entry: Mapping[str, Any]) -> tuple[EntryId, CocoImage]:
    height, width = side(entry, "height"), side(entry, "width")
    if height * width > _MAX_PIXELS:
        raise DataError(f"height x width must be at most {_MAX_PIXELS} pixels. Received: {height} x {width}")
    entry_id = identifier(entry, "id")
    if not is_safe_id(str(entry_id)):
        raise DataError(
            "id must be valid as the name of a prediction file, without .., \\ and control characters; rename it. "
            f"Received: id={entry_id!r:.200}"
        )
    return entry_id, CocoImage(str(entry_id), text(entry, "file_name"), height, width)


def _by_id(part: str, parsed: Sequence[tuple[EntryId, Parsed]]) -> dict[EntryId, Parsed]:
    """Return parsed entries by id, sorted by id."""
    ids = [entry_id for entry_id, _ in parsed]
    samples = list({type(entry_id): entry_id for entry_id in ids}.values())
    if len(samples) > 1:
        raise DataError(f"ids of {part} must be all integers or all text. Received: ids={samples}")
    repeated = [entry_id for entry_id, times in Counter(ids).items() if times > 1]
    if repeated:
        raise DataError(f"ids of {part} must be unique; renumber them. Received: repeated ids={repeated[:_MAX_SHOWN]}")
    return dict(sorted(parsed, key=itemgetter(0)))


def _check_unique_files(images: Iterable[CocoImage]) -> None:
    """Check that no image is listed twice, each time with a part of its annotations."""
    times = Counter(normpath(image.file_name) for image in images)
    if repeated := [name for name, number in times.items() if number > 1]:
        raise DataError(
            "file_name must be unique in images; merge the entries of an image and their annotations. "
            f"Received: repeated file_name={repeated[:_MAX_SHOWN]}"
        )


def _number_classes(entries: Sequence[Any], *, background: str | None) -> tuple[tuple[str, ...], dict[EntryId, int]]:
    """Return the class names, and the label of each category by its id."""
    categories = _by_id("categories", parse_entries("categories", entries, _category))
    if background is None:
        return tuple(categories.values()), {entry_id: label for label, entry_id in enumerate(categories)}
    own = {entry_id: name for entry_id, name in categories.items() if _folded(name) == _folded(background)}
    if len(own) > 1:
        raise DataError(
            "only one category can be the class of pixels without annotation; merge or rename the others. "
            f"Received: categories={list(own.values())}, background={background!r}"
        )
    objects = {entry_id: name for entry_id, name in categories.items() if entry_id not in own}
    names = [next(iter(own.values()), background), *objects.values()]
    labels = {entry_id: label for label, entry_id in enumerate(objects, start=1)}
    return tuple(names), labels | dict.fromkeys(own, 0)


def _folded(name: str) -> str:
    return name.strip("_ ").casefold()


def _add_regions(
    entries: Sequence[Any],
    *,
    images: Mapping[EntryId, CocoImage],
    labels: Mapping[EntryId, int],
    crowd_label: int,
) -> None:
    """Parse the annotations and add their regions to the images."""

    def parse(entry: Mapping[str, Any]) -> tuple[EntryId, tuple[CocoImage, Region]]:
        image = images[_reference(entry, "image_id", defined=images)]
        label = labels[_reference(entry, "category_id", defined=labels)]
        is_crowd = flag(entry, "iscrowd")
        segmentation = required(entry, "segmentation")
        check_region(segmentation, size=(image.height, image.width))
        entry_id = identifier(entry, "id")
        return entry_id, (image, Region(entry_id, crowd_label if is_crowd else label, is_crowd, segmentation))

    annotations = parse_entries("annotations", entries, parse)
    _by_id("annotations", annotations)
    _check_annotations([region for _, (_, region) in annotations])
    for _, (image, region) in annotations:
        image.regions.append(region)


def _check_annotations(regions: Sequence[Region]) -> None:
    """Check the annotations as a whole: coordinates are in pixels; warn if most are crowds."""
    if regions and all(is_normalized(region.segmentation) for region in regions):
        raise DataError(
            "polygons must have coordinates in pixels; multiply them by width and height. "
            "Received: all coordinates between 0 and 1"
        )
    num_crowds = sum(region.is_crowd for region in regions)
    if 2 * num_crowds > len(regions):
        _log.warning(
            "%d of %d annotations are crowds and ignored; set iscrowd to 0 if they are single objects, such as masks "
            "exported by CVAT",
            *(num_crowds, len(regions)),
        )


def _reference(entry: Mapping[str, Any], key: str, *, defined: Mapping[EntryId, object]) -> EntryId:
    """Return the id of an image or category that an annotation refers to."""
    value = identifier(entry, key)
    if value not in defined:
        kinds = {type(known) for known in defined}
        other = "; the ids there are " + ("text" if str in kinds else "integers") if type(value) not in kinds else ""
        raise DataError(f"{key} must be an id in {_PART_OF[key]}{other}. Received: {key}={value!r:.60}")
    return value
