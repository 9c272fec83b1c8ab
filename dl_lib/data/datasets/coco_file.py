"""COCO annotation files (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

from dl_lib.data.datasets.coco_regions import Region
from dl_lib.data.errors import DataError, UnreadableFileError
from dl_lib.utils.names import is_safe_id

__all__ = ["CocoFile", "CocoImage", "read_coco"]

_PARTS = ("images", "annotations", "categories")
_MAX_SHOWN = 3  # entries per error message


@dataclass(frozen=True)
class CocoImage:
    """Image and its annotations."""

    image_id: str
    file_name: str  # relative to the image folder
    height: int  # pixels, like the width
    width: int
    regions: Sequence[Region]  # in the order of the file


@dataclass(frozen=True)
class CocoFile:
    """Content of an annotation file, sorted by id, including categories and images without annotations."""

    category_names: tuple[str, ...]
    images: tuple[CocoImage, ...]


def read_coco(path: Path, *, first_label: int, crowd_label: int) -> CocoFile:
    """Read an annotation file.

    Args:
        path: Existing file.
        first_label: Label of the category with the lowest id; the others are numbered consecutively.
        crowd_label: Label of crowds.

    Raises:
        UnreadableFileError: If the file is not JSON or not in COCO format.
        DataError: If an id occurs twice, or an annotation refers to an unknown image or category.
    """
    content = _load(path)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        labels = {category["id"]: first_label + position for position, category in enumerate(categories)}
        images = sorted(content["images"], key=lambda image: image["id"])
        _check_ids(content, path)
        regions = _regions(content["annotations"], labels=labels, crowd_label=crowd_label)
        return CocoFile(
            category_names=tuple(str(category["name"]) for category in categories),
            images=tuple(
                CocoImage(
                    image_id=str(image["id"]),
                    file_name=image["file_name"],
                    height=image["height"],
                    width=image["width"],
                    regions=regions.get(image["id"], ()),
                )
                for image in images
            ),
        )
    except (KeyError, TypeError) as error:
        raise UnreadableFileError(
            f"{path} is not in COCO format: an entry has a missing key or a wrong type. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        content = loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{path} is damaged or not a JSON file. Received: {error}") from error
    if isinstance(content, dict) and all(isinstance(content.get(part), list) for part in _PARTS):
        return content
    received = sorted(content) if isinstance(content, dict) else type(content).__name__
    raise UnreadableFileError(
        f"{path} is not in COCO format. Expected an object with the lists {', '.join(_PARTS)}. Received: {received}"
    )


def _check_ids(content: Mapping[str, list[Any]], path: Path) -> None:
    ids = {part: [entry["id"] for entry in content[part]] for part in _PARTS}
    for part, given in ids.items():
        repeated = [entry_id for entry_id, times in Counter(given).items() if times > 1]
        if repeated:
            raise DataError(
                f"{path}: ids of {part} must be unique; renumber them. Received: repeated ids={repeated[:_MAX_SHOWN]}"
            )
    unsafe = [image_id for image_id in ids["images"] if not is_safe_id(str(image_id))]
    if unsafe:
        raise DataError(
            f"{path}: ids of images must be valid as names of prediction files, without .., \\ and control characters; "
            f"rename them. Received: ids={unsafe[:_MAX_SHOWN]!r:.200}"
        )
    known = {"image_id": set(ids["images"]), "category_id": set(ids["categories"])}
    for key, listed in known.items():
        unknown = [entry for entry in content["annotations"] if entry[key] not in listed]
        if unknown:
            shown = ", ".join(f"annotation {entry['id']} with {key}={entry[key]}" for entry in unknown[:_MAX_SHOWN])
            raise DataError(
                f"{path}: {len(unknown)} annotations have a {key} that is not defined in the file; define it or remove "
                f"the annotations. Received: {shown}"
            )


def _regions(
    annotations: Iterable[Mapping[str, Any]], *, labels: Mapping[int, int], crowd_label: int
) -> dict[int, list[Region]]:
    regions: dict[int, list[Region]] = defaultdict(list)
    for annotation in annotations:
        is_crowd = bool(annotation.get("iscrowd", 0))
        regions[annotation["image_id"]].append(
            Region(
                annotation["id"],
                crowd_label if is_crowd else labels[annotation["category_id"]],
                is_crowd,
                annotation["segmentation"],
            )
        )
    return regions
