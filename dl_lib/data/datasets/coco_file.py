"""Annotation files in COCO's format: what they hold of each image; https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

from dl_lib.data.datasets.coco_regions import Region
from dl_lib.data.errors import DataError, UnreadableFileError

__all__ = ["CocoFile", "CocoImage", "read_coco"]

_PARTS = ("images", "annotations", "categories")
_SHOWN = 3  # of those that an error is about


@dataclass(frozen=True)
class CocoImage:
    """One image and what is annotated in it.

    Args:
        image_id: as in the file.
        file_name: relative to the folder of images.
        height: in pixels.
        width: in pixels.
        regions: in the order of the file.
    """

    image_id: str
    file_name: str
    height: int
    width: int
    regions: Sequence[Region]


@dataclass(frozen=True)
class CocoFile:
    """What an annotation file says, in the order of the ids.

    Args:
        category_names: of all categories, also of those that do not occur.
        images: also those without annotation.
    """

    category_names: tuple[str, ...]
    images: tuple[CocoImage, ...]


def read_coco(path: Path, *, first_label: int, crowd_label: int) -> CocoFile:
    """Read an annotation file.

    Args:
        path: of a file that exists.
        first_label: the label of the category with the lowest id; the others follow.
        crowd_label: the label of crowds.

    Raises:
        UnreadableFileError: if it is no JSON, or not in COCO's format.
        DataError: if an id occurs twice, or an annotation is of an image or a category that is not listed.
    """
    content = _load(path)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        labels = {category["id"]: first_label + place for place, category in enumerate(categories)}
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
            f"{path}: an entry lacks what it has in COCO's format. Received: {type(error).__name__}: {error}"
        ) from error


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        content = loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"{path} is no JSON, or damaged. Received: {error}") from error
    if isinstance(content, dict) and all(isinstance(content.get(part), list) for part in _PARTS):
        return content
    received = sorted(content) if isinstance(content, dict) else type(content).__name__
    raise UnreadableFileError(
        f"{path} is not in COCO's format: expected lists of {', '.join(_PARTS)}. Received: {received}"
    )


def _check_ids(content: Mapping[str, list[Any]], path: Path) -> None:
    ids = {part: [entry["id"] for entry in content[part]] for part in _PARTS}
    for part, given in ids.items():
        repeated = [one for one, times in Counter(given).items() if times > 1]
        if repeated:
            raise DataError(f"{path}: ids of {part} occur more than once. Received: ids={repeated[:_SHOWN]}")
    known = {"image_id": set(ids["images"]), "category_id": set(ids["categories"])}
    for key, listed in known.items():
        strangers = [entry for entry in content["annotations"] if entry[key] not in listed]
        if strangers:
            shown = ", ".join(f"annotation {entry['id']} with {key}={entry[key]}" for entry in strangers[:_SHOWN])
            raise DataError(
                f"{path}: {len(strangers)} annotations have a {key} that the file does not list. Received: {shown}"
            )


def _regions(
    annotations: Iterable[Mapping[str, Any]], *, labels: Mapping[int, int], crowd_label: int
) -> dict[int, list[Region]]:
    """By image id."""
    regions: dict[int, list[Region]] = defaultdict(list)
    for annotation in annotations:
        is_crowd = bool(annotation.get("iscrowd", 0))
        regions[annotation["image_id"]].append(
            Region(
                annotation_id=annotation["id"],
                value=crowd_label if is_crowd else labels[annotation["category_id"]],
                is_crowd=is_crowd,
                segmentation=annotation["segmentation"],
            )
        )
    return regions
