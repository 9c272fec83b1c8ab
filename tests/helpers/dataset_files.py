"""Miniature datasets in their original layouts on disk, with a few small images made from digit scenes.

The files are determined by the arguments.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

from dl_lib.data.datasets.cityscapes_labels import CITYSCAPES_LABELS
from dl_lib.data.datasets.digit_scenes import DigitScenes
from dl_lib.data.datasets.voc import VOC_PALETTE

CITIES = {
    "train": ("aachen", "bochum"),
    "val": ("frankfurt", "munster"),
    "test": ("berlin", "bonn"),
    "train_extra": ("augsburg", "konstanz"),
}
CITYSCAPES_IDS = [label for label in CITYSCAPES_LABELS if label.id >= 0]
ID_OF_SCENE = (7, 26, 24, 11, 23, 21, 8, 20, 17, 33, 28)  # Cityscapes id of each label of a digit scene

VOC_NAMES = {
    "train": ["2007_000032", "2007_000039", "2007_000063", "2007_000068"],
    "val": ["2007_000033", "2007_000042", "2007_000061"],
    "test": ["2008_000006", "2008_000011"],
}
# SBD has its own splits, which contain some images of VOC and many others.
SBD_NAMES = {
    "train": ["2007_000032", "2007_000033", "2008_000002", "2008_000008"],
    "val": ["2007_000042", "2007_000063", "2008_000015"],
}
AUGMENTED_NAMES = [*VOC_NAMES["train"], "2008_000002", "2008_000008", "2008_000015"]  # written by hand

COCO_CATEGORY_IDS = [90, 3, 17, 5, 62, 44, 1, 28, 11, 70]  # category ids of the digits 0..9


def write_cityscapes(root, *, size=(64, 128), images_per_city=1, train_ids=False, coarse=False):
    """Write Cityscapes with two cities in each of train, val and test; labels of test are dummies, as published.

    All other labels contain all 34 ids: those of background and digits, and a strip of all ids at the bottom.

    Args:
        root: Dataset root.
        size: (height, width), at least (48, 128).
        images_per_city: Number of images per city.
        train_ids: Whether to write *_labelTrainIds.png in addition to *_labelIds.png.
        coarse: Whether to write train_extra with gtCoarse as well.
    """
    for seed, (split, cities) in enumerate(CITIES.items()):
        if split == "train_extra" and not coarse:
            continue
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        scenes = DigitScenes(
            "val" if split == "val" else "train", length=len(cities) * images_per_city, size=size, seed=seed
        )
        for index in range(len(scenes)):
            city = cities[index // images_per_city]
            name = f"{city}_{index:06d}_000019"
            image, ids = _cityscapes_scene(scenes[index])
            save_png(Path(root, f"cityscapes/leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"), image)
            labels = Path(root, f"cityscapes/{kind}/{split}/{city}/{name}_{kind}")
            _write_cityscapes_labels(labels, np.zeros_like(ids) if split == "test" else ids, train_ids=train_ids)


def _cityscapes_scene(scene):
    """Return the image and ids of a digit scene with a strip of all ids in their colors."""
    image, ids = scene["image"].copy(), np.zeros(scene["sem_seg"].shape, np.uint8)
    for label, cityscapes_id in enumerate(ID_OF_SCENE):
        ids[scene["sem_seg"] == label] = cityscapes_id
    cell = ids.shape[1] // len(CITYSCAPES_IDS)
    for label in CITYSCAPES_IDS:
        columns = slice(label.id * cell, (label.id + 1) * cell)
        ids[-4:, columns] = label.id
        image[-4:, columns] = label.color
    return image, ids


def _write_cityscapes_labels(stem, ids, *, train_ids):
    save_png(Path(f"{stem}_labelIds.png"), ids)
    instances = ids.astype(np.uint16)
    for label in CITYSCAPES_IDS:
        if label.has_instances:
            instances[ids == label.id] = label.id * 1000
    save_png(Path(f"{stem}_instanceIds.png"), instances)
    if train_ids:
        save_png(
            Path(f"{stem}_labelTrainIds.png"), np.array([label.train_id for label in CITYSCAPES_IDS], np.uint8)[ids]
        )


def write_voc(root):
    """Write VOC 2012 with JPEGs of odd and different sizes, and palette PNGs with a border of 255 around objects."""
    folder = Path(root, "VOCdevkit", "VOC2012")
    for split, names in VOC_NAMES.items():
        for name in names:
            image, label = _voc_scene(name)
            save_jpeg(folder / "JPEGImages" / f"{name}.jpg", image)
            if split != "test":
                save_palette_png(folder / "SegmentationClass" / f"{name}.png", label)
    lists = {**VOC_NAMES, "trainval": sorted(VOC_NAMES["train"] + VOC_NAMES["val"])}
    _write_lists(folder / "ImageSets" / "Segmentation", lists)


def write_sbd(root):
    """Write SBD; its labels have no border, even for images that VOC annotates as well."""
    folder = Path(root, "sbd")
    for name in (*SBD_NAMES["train"], *SBD_NAMES["val"]):
        image, label = _voc_scene(name)
        save_jpeg(folder / "img" / f"{name}.jpg", image)
        save_sbd_label(folder / "cls" / f"{name}.mat", np.where(label == 255, 0, label).astype(np.uint8))
    _write_lists(folder, SBD_NAMES)


def _voc_scene(name):
    """Return the image and label of a name; the digits represent the classes 1..10 or 11..20."""
    number = int(name.replace("_", ""))
    size = 49 + 2 * (number % 13), 63 + 2 * (number % 17)
    scene = DigitScenes("train", length=1, size=size, seed=number)[0]
    is_object = (scene["sem_seg"] > 0) & (scene["sem_seg"] < 255)
    return scene["image"], scene["sem_seg"] + (10 * (number % 2) * is_object).astype(np.uint8)


def write_coco(root):
    """Write a COCO dataset of three images with digits as instances; the last image has no annotations.

    In the others, regions are polygons, run lengths and compressed run lengths in turn. A rectangle is below the
    digits, and a crowd below a part of both.
    """
    folder = Path(root, "coco")
    scenes = DigitScenes("train", length=3, size=(64, 96))
    images, annotations = [], []
    for index in range(len(scenes)):
        image_id = 100 - index
        name = f"{image_id:012d}.jpg"
        save_jpeg(folder / "images" / name, scenes[index]["image"])
        images.append({"id": image_id, "file_name": name, "height": 64, "width": 96})
        if index < 2:
            for region in _coco_regions(scenes[index]["sem_seg"]):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **region})
    categories = [{"id": number, "name": f"digit {digit}"} for digit, number in enumerate(COCO_CATEGORY_IDS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def _coco_regions(label):
    forms = (as_polygons, as_counts, as_text)
    for position, value in enumerate(value for value in range(1, 11) if (label == value).any()):
        yield {"category_id": COCO_CATEGORY_IDS[value - 1], "segmentation": forms[position % 3](label == value)}
    yield {"category_id": COCO_CATEGORY_IDS[0], "segmentation": [[8.0, 8.0, 88.0, 8.0, 88.0, 56.0, 8.0, 56.0]]}
    crowd = np.zeros(label.shape, bool)
    crowd[:, :20] = True
    yield {"category_id": COCO_CATEGORY_IDS[1], "segmentation": as_counts(crowd), "iscrowd": 1}


def as_polygons(mask):
    """Return the outlines of a mask as polygons, ignoring holes."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour.ravel().tolist() for contour in contours if len(contour) > 2]


def as_counts(mask):
    """Return the run lengths of a mask in column-major order, starting outside of the mask."""
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=~mask.T.ravel()[-1]))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0).tolist()}


def as_text(mask):
    """Return the compressed run lengths of pycocotools."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def save_png(path, pixels):
    """Write ids, (H, W) with 8 or 16 bits, or an RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_palette_png(path, label):
    """Write ids, (H, W) uint8, as indices into the VOC palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label)
    image.putpalette(np.array(VOC_PALETTE, np.uint8).tobytes())
    image.save(path)


def save_jpeg(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def save_sbd_label(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    present = np.setdiff1d(label, [0])[:, None]
    savemat(path, {"GTcls": {"Segmentation": label, "CategoriesPresent": present}}, do_compression=True)


def _write_lists(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for split, listed in names.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in listed))
