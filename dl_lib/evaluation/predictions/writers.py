"""What becomes of predictions on disk: `TEST.SAVE_PREDICTIONS`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pycocotools import mask as coco_mask

from dl_lib.data.errors import MissingDataError
from dl_lib.evaluation.scores.prediction import Prediction
from dl_lib.utils import comm
from dl_lib.utils.files import open_atomically, write_atomically

__all__ = ["CocoRleWriter", "PredictionWriter"]

CATEGORIES_NAME = "coco_categories.json"


class PredictionWriter(Protocol):
    """Writes the predictions of one data set, each process its own share of them."""

    def open(self) -> None:
        """Every process calls it, before the first image."""

    def process(self, prediction: Prediction) -> None:
        """Writes one image."""

    def close(self) -> None:
        """The main process calls it, when all processes have seen all of their images."""


class CocoRleWriter:
    """One JSON array in COCO's format of results: an entry for each image and class predicted in it.

    An entry holds `image_id` (a number if it looks like one, as COCO's own are), `category_id` (the index of the class
    in the data set; coco_categories.json, beside it, has the names) and `segmentation`, compressed run lengths with
    their counts as text (https://cocodataset.org/#format-results).

    Each process appends to a part of its own, which the main process puts together at the end; neither ever holds more
    than one image in memory. The processes have to share the folder.

    Args:
        folder: for coco_rle.json and coco_categories.json; made where it does not exist.
        class_names: of the data set.
    """

    def __init__(self, folder: Path, *, class_names: Sequence[str]) -> None:
        self._path = folder / "coco_rle.json"
        self._class_names = class_names

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._part(comm.get_rank()).write_bytes(b"")

    def process(self, prediction: Prediction) -> None:
        with self._part(comm.get_rank()).open("a") as part:
            for entry in _entries(prediction):
                part.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def close(self) -> None:
        parts = [self._part(rank) for rank in range(comm.get_world_size())]
        missing = [part.name for part in parts if not part.exists()]
        if missing:
            raise MissingDataError(
                f"the processes have to write into one folder that all of them see, and {self._path.parent} lacks "
                f"parts; choose an OUTPUT_DIR on a disk that the machines share. Received: missing={missing}"
            )
        with open_atomically(self._path) as whole:
            whole.write(b"[")
            for number, line in enumerate(_lines(parts)):
                whole.write((b",\n" if number else b"\n") + line)
            whole.write(b"\n]\n")
        categories = [{"id": index, "name": name} for index, name in enumerate(self._class_names)]
        write_atomically(self._path.with_name(CATEGORIES_NAME), json.dumps(categories, indent=1) + "\n")
        for part in parts:
            part.unlink()

    def _part(self, rank: int) -> Path:
        return self._path.with_name(f"{self._path.name}.part{rank}")


def _entries(prediction: Prediction) -> Iterator[dict[str, Any]]:
    classes = prediction.classes.cpu().numpy()
    for index in np.unique(classes).tolist():
        rle = coco_mask.encode(np.asfortranarray(classes == index, dtype=np.uint8))
        segmentation = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
        yield {"image_id": _coco_id(prediction.image_id), "category_id": index, "segmentation": segmentation}


def _coco_id(image_id: str) -> int | str:
    """As a number, where it is one written in digits without zeros before it."""
    is_number = image_id.isascii() and image_id.isdecimal() and str(int(image_id)) == image_id
    return int(image_id) if is_number else image_id


def _lines(parts: Iterable[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
