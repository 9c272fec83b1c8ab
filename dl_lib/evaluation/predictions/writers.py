"""Writers of predictions (`TEST.SAVE_PREDICTIONS`)."""

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
from dl_lib.utils.files import open_atomically, write_atomically, write_errors

__all__ = ["CocoRleWriter", "PredictionWriter"]

CATEGORIES_NAME = "coco_categories.json"


class PredictionWriter(Protocol):
    """Writer of the predictions of one dataset; every process writes its own images."""

    def open(self) -> None:
        """Prepare the output; called by every process before the first image."""

    def process(self, prediction: Prediction) -> None:
        """Write one image."""

    def close(self) -> None:
        """Finish the output; called by the main process after all processes have written all images."""


class CocoRleWriter:
    """Writer of COCO results: a JSON array with one entry per image and predicted class.

    An entry holds `image_id` (an integer if the id is a decimal number, as in COCO), `category_id` (the class index,
    named in coco_categories.json in the same folder) and `segmentation`, a compressed RLE with counts as text
    (https://cocodataset.org/#format-results).

    Each process appends to a part file, and the main process concatenates the parts at the end. Memory use is
    limited to one image. The folder must be on a shared file system.

    Args:
        folder: Output folder for coco_rle.json and coco_categories.json, created if necessary.
        class_names: Class names of the dataset.
    """

    def __init__(self, folder: Path, *, class_names: Sequence[str]) -> None:
        self._path = folder / "coco_rle.json"
        self._class_names = class_names

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._part(comm.get_rank()).write_bytes(b"")

    def process(self, prediction: Prediction) -> None:
        path = self._part(comm.get_rank())
        with write_errors(path), path.open("a", encoding="utf-8") as part:
            for entry in _entries(prediction):
                part.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def close(self) -> None:
        parts = [self._part(rank) for rank in range(comm.get_world_size())]
        missing = [part.name for part in parts if not part.exists()]
        if missing:
            raise MissingDataError(
                f"part files of other processes are missing in {self._path.parent}; OUTPUT_DIR must be on a file "
                f"system shared by all machines. Received: missing={missing}"
            )
        with open_atomically(self._path) as file:
            file.write(b"[")
            for number, line in enumerate(_lines(parts)):
                file.write((b",\n" if number else b"\n") + line)
            file.write(b"\n]\n")
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
    """Return an id as an integer if it is a decimal number without leading zeros, else unchanged."""
    is_number = image_id.isascii() and image_id.isdecimal() and str(int(image_id)) == image_id
    return int(image_id) if is_number else image_id


def _lines(parts: Iterable[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
