"""Formats of datasets: annotations, lists, images, labels, palettes, decode cache and archives."""

import contextlib
import io
import json
import shutil
import tarfile

import numpy as np
from PIL import Image

from dl_lib.data.archives import PublishedArchive, unpack_archive
from dl_lib.data.cache import cached_dataset
from dl_lib.data.datasets.coco import CocoSource
from dl_lib.data.datasets.sbd import read_sbd_label
from dl_lib.data.errors import DataError
from dl_lib.data.files import pair_files, read_names
from dl_lib.data.label_map import LabelClasses
from dl_lib.data.orientation import read_orientation
from dl_lib.data.reading import read_color_label, read_image, read_label
from tests.fuzz.registry import Format, registered
from tests.helpers.dataset_files import as_counts, as_text, save_sbd_label
from tests.helpers.image_files import encoded, exif, npy, with_palette
from tests.helpers.mutations import mutated_bytes, mutated_tree, with_png_checksums

IGNORE = 255


@registered
def coco(folder):
    path, label = folder / "annotations.json", np.zeros((8, 12), bool)
    label[2:5, 3:9] = True
    shapes = [
        as_counts(label),
        as_text(label),
        [[1, 1, 7, 1, 7, 5.5, 1, 5]],
        [[0, 0, 12, 0, 12, 8], [1, 1, 3, 1, 3, 3]],
    ]
    tree = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 12} for i in (1, 2)],
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)],
        "annotations": [
            {"id": i, "image_id": 1 + i % 2, "category_id": 1 + i % 3, "iscrowd": int(i == 0), "segmentation": shape}
            for i, shape in enumerate(shapes)
        ],
    }
    for image in tree["images"]:
        Image.new("RGB", (12, 8)).save(folder / image["file_name"])

    def read(content):
        path.write_bytes(content)
        source = CocoSource(str(path), str(folder), background="background", ignore_value=IGNORE)
        allowed = {*range(source.meta().num_classes), IGNORE}
        dataset = source()
        for index in range(len(dataset)):
            with contextlib.suppress(DataError):  # of one image, such as a missing file
                sample = dataset[index]
                assert sample["sem_seg"].shape == sample["image"].shape[:2] == (8, 12)
                assert set(np.unique(sample["sem_seg"]).tolist()) <= allowed

    damaged = mutated_bytes([json.dumps(tree).encode()])
    return Format(damaged | mutated_tree(tree).map(lambda tree: json.dumps(tree).encode()), read)


@registered
def lists(folder):
    path = folder / "train.txt"
    files = {name: f"/images/{name}.jpg" for name in ("2007_000032", "2007_000039", "mit_ä/1")}

    def read(content):
        path.write_bytes(content)
        paired = pair_files(read_names(path), images=files, labels=files)
        assert {record.image_id for record in paired.records} <= files.keys()

    return Format(mutated_bytes(["".join(f"{name}\n" for name in files).encode()]), read)


@registered
def images(folder):
    path = folder / "image"
    rng = np.random.default_rng(0)
    color, gray = rng.integers(0, 255, (6, 9, 3), np.uint8), rng.integers(0, 255, (6, 9), np.uint8)
    valid = [encoded(color, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")]
    valid += [encoded(gray, "PNG"), encoded(gray > 99, "PNG"), encoded(gray.astype(np.uint16), "PNG")]
    valid += [encoded(color, "JPEG", progressive=True), encoded(color, "TIFF", compression="tiff_lzw")]
    valid += [encoded(color, kind, exif=exif(6)) for kind in ("JPEG", "TIFF", "PNG", "WEBP")]

    def read(content):
        path.write_bytes(content)
        assert 1 <= read_orientation(path) <= 8
        image = read_image(path)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size

    damaged = mutated_bytes(valid)
    return Format(damaged | damaged.map(with_png_checksums), read)


@registered
def labels(folder):
    path = folder / "label.png"
    ids = np.arange(54, dtype=np.uint8).reshape(6, 9)
    valid = [encoded(with_palette(ids)), *(encoded(ids, kind) for kind in ("PNG", "TIFF", "BMP"))]
    valid += [encoded(ids.astype(np.uint16) * 999, kind) for kind in ("PNG", "TIFF")]
    valid += [npy(ids.astype(dtype)) for dtype in (np.uint8, np.int64, np.float32)]

    def read(content):
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            colors = read_color_label(path)
            assert colors.dtype == np.uint8 and colors.shape[2:] == (3,) and colors.size
        label = read_label(path)
        assert np.issubdtype(label.dtype, np.integer) and label.ndim == 2 and label.size

    damaged = mutated_bytes(valid)
    return Format(damaged | damaged.map(with_png_checksums), read)


@registered
def palette(folder):
    path = folder / "palette.txt"
    classes = LabelClasses(("road", "car"), ignore_value=IGNORE)

    def read(content):
        path.write_bytes(content)
        for color, label in classes.palette_reader(path).colors:
            assert all(0 <= channel <= 255 for channel in color)
            assert label in (0, 1, IGNORE)

    return Format(mutated_bytes([b"0 0 0\n255 0 0\n", b"name,r,g,b\nroad,0,0,0\ncar,255,0,0\nignore,1,1,1\n"]), read)


@registered
def sbd_labels(folder):
    path = folder / "label.mat"
    save_sbd_label(path, np.arange(54, dtype=np.uint8).reshape(6, 9))

    def read(content):
        path.write_bytes(content)
        label = read_sbd_label(str(path))
        assert label.dtype == np.uint8 and label.ndim == 2

    return Format(mutated_bytes([path.read_bytes()]), read)


class _Samples:
    """Dataset of three constant samples, the last one without a label."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = {"image": np.full((4, 5, 3), index, np.uint8), "image_id": str(index), "file_name": f"{index}.png"}
        return sample if index == 2 else {**sample, "sem_seg": np.full((4, 5), index, np.uint8)}

    def fingerprint(self):
        return "constant"


@registered
def cache(folder):
    samples = _Samples()
    path = cached_dataset(samples, name="mine", folder=folder).path
    valid = path.read_bytes()

    def read(content):
        path.write_bytes(content)
        dataset = cached_dataset(samples, name="mine", folder=folder)
        assert len(dataset) == len(samples)
        for index in range(len(dataset)):
            found, expected = dataset[index], samples[index]
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert np.array_equal(found[name], value), name

    return Format(mutated_bytes([valid]), read)


@registered
def archives(folder):
    path, extracted = folder / "archive.tar", folder / "extracted"
    archive = PublishedArchive("archive.tar", "https://example.org/archive.tar", "", {"data/": "mine/"})
    valid = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            for name in ("data/a.txt", "data/b/c.txt", "other.txt"):
                member = tarfile.TarInfo(name)
                member.size = 5
                tar.addfile(member, io.BytesIO(b"hello"))
        valid.append(buffer.getvalue())

    def read(content):
        shutil.rmtree(extracted, ignore_errors=True)
        path.write_bytes(content)
        try:
            unpack_archive(path, archive, folder=extracted)
        finally:
            assert {entry.name for entry in folder.iterdir()} <= {"archive.tar", "extracted"}
            assert {entry.name for entry in extracted.glob("[!.]*")} <= {"mine"}

    return Format(mutated_bytes(valid), read)
