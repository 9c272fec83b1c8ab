"""Regions of the photographs inside scikit-image, scikit-learn and matplotlib, by split and class.

They are part of the installed packages: nothing is downloaded. No photograph is used in both splits.

| photograph | split | class | source, license |
| --- | --- | --- | --- |
| `brick`, `gravel` | train | other | CC0Textures, CC0 |
| `coffee` | train | other | Rachel Michetti, CC0 |
| `chelsea` | train | other | Stefan van der Walt, CC0 |
| `coins` | train | other | Brooklyn Museum, no known copyright restrictions |
| `rocket` | train | sky | SpaceX, public domain |
| `camera` | train | sky, vegetation | Lav Varshney, CC0 |
| `grass` | train | vegetation | linolafett (DeviantArt), CC0 |
| `lfw_0` to `lfw_79` | train | face | Labeled Faces in the Wild (Huang et al., 2012), for research |
| `astronaut` | train | flag | NASA, public domain |
| `page` | train | writing | scikit-image, BSD |
| `motorcycle` | val | other | Middlebury stereo benchmark (Scharstein et al., 2014), for research |
| `ihc` | val | other | Center for Microscopy and Molecular Imaging, no known copyright restrictions |
| `flower` | val | other | vultilion (Flickr), CC BY 2.0, ships with scikit-learn |
| `china` | val | sky, vegetation | danielbuechele (Flickr), CC BY 2.0, ships with scikit-learn |
| `lfw_80` to `lfw_99` | val | face | Labeled Faces in the Wild |
| `grace_hopper` | val | flag | US Navy, public domain, ships with matplotlib |
| `text` | val | writing | Wikipedia (Corner.png), public domain |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from dl_lib.utils.extras import requires_extra

__all__ = ["CLASS_NAMES", "PHOTO_REGIONS", "PhotoRegion", "crop_regions"]

CLASS_NAMES = ("other", "sky", "vegetation", "face", "flag", "writing")
WHOLE = (0.0, 0.0)


@dataclass(frozen=True)
class PhotoRegion:
    """Rectangle of a photograph that shows one class.

    Attributes:
        class_name: One of `CLASS_NAMES`.
        photo: Name of the photograph; `lfw_N` is image N of `skimage.data.lfw_subset`.
        box: (top, left, bottom, right) in pixels; None is the whole photograph.
        zoom: Range of scene pixels per pixel of the photograph; it is exceeded where an object would show more than
            the region, so that `WHOLE` shows as much of the region as fits into an object.
    """

    class_name: str
    photo: str
    box: tuple[int, int, int, int] | None = None
    zoom: tuple[float, float] = (0.5, 1.5)


PHOTO_REGIONS: dict[str, tuple[PhotoRegion, ...]] = {
    "train": (
        *(PhotoRegion("other", photo) for photo in ("brick", "gravel", "coffee", "chelsea", "coins")),
        PhotoRegion("sky", "camera", box=(0, 280, 112, 512)),
        PhotoRegion("sky", "rocket", box=(0, 110, 118, 540)),
        PhotoRegion("vegetation", "camera", box=(250, 412, 512, 512)),
        PhotoRegion("vegetation", "grass", zoom=(0.25, 1.5)),
        *(PhotoRegion("face", f"lfw_{index}", zoom=WHOLE) for index in range(80)),
        PhotoRegion("flag", "astronaut", box=(0, 0, 120, 55), zoom=WHOLE),
        PhotoRegion("flag", "astronaut", box=(0, 0, 260, 50), zoom=WHOLE),
        PhotoRegion("writing", "page", zoom=(0.4, 1.0)),
    ),
    "val": (
        PhotoRegion("other", "motorcycle", box=(0, 0, 420, 741)),
        PhotoRegion("other", "ihc"),
        PhotoRegion("other", "flower", box=(100, 185, 340, 435)),
        PhotoRegion("sky", "china", box=(0, 330, 120, 640)),
        PhotoRegion("vegetation", "china", box=(310, 375, 427, 640)),
        *(PhotoRegion("face", f"lfw_{index}", zoom=WHOLE) for index in range(80, 100)),
        PhotoRegion("flag", "grace_hopper", box=(0, 0, 330, 130), zoom=WHOLE),
        PhotoRegion("flag", "grace_hopper", box=(240, 75, 335, 130), zoom=WHOLE),
        PhotoRegion("writing", "text", zoom=(0.2, 0.5)),
    ),
}


def crop_regions(split: str) -> list[np.ndarray]:
    """Return the pixels of each region of a split, (height, width, 3) uint8, RGB.

    Raises:
        MissingExtraError: If scikit-image or scikit-learn is not installed.
    """
    with requires_extra("quickstart", feature="a dataset of photo scenes", packages="scikit-image and scikit-learn"):
        readers = _photo_readers()
    photos = {name: _to_rgb(readers[name]()) for name in {region.photo for region in PHOTO_REGIONS[split]}}
    crops = []
    for region in PHOTO_REGIONS[split]:
        photo = photos[region.photo]
        top, left, bottom, right = region.box or (0, 0, *photo.shape[:2])
        crops.append(np.ascontiguousarray(photo[top:bottom, left:right]))
    return crops


def _photo_readers() -> dict[str, Callable[[], Any]]:
    """Return a function for each photograph that reads its pixels, (H, W) or (H, W, 3): uint8, or floats in 0..1."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    names = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "page", "rocket", "text")
    faces = data.lfw_subset()
    return {
        **{name: getattr(data, name) for name in names},
        **{f"lfw_{index}": partial(faces.__getitem__, index) for index in range(100)},
        "ihc": data.immunohistochemistry,
        "motorcycle": lambda: data.stereo_motorcycle()[0],
        "china": partial(load_sample_image, "china.jpg"),
        "flower": partial(load_sample_image, "flower.jpg"),
        "grace_hopper": _read_grace_hopper,
    }


def _read_grace_hopper() -> np.ndarray:
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    return np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)))


def _to_rgb(photo: np.ndarray) -> np.ndarray:
    if photo.dtype != np.uint8:
        photo = np.rint(photo * 255).astype(np.uint8)
    return photo if photo.ndim == 3 else cv2.cvtColor(photo, cv2.COLOR_GRAY2RGB)
