"""`dl_lib prepare-voc`: PASCAL VOC 2012 and SBD from their archives into the data sets' folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.errors import user_errors

if TYPE_CHECKING:
    from dl_lib.data.archives import PublishedArchive

__all__ = ["main", "prepare_voc", "published_archives"]

EXPECTED_AUGMENTED = 10582  # images, with the published archives: the usual `trainaug` of the literature


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib prepare-voc") -> None:
    """Fetch or take, check, unpack, list; see `dl_lib prepare-voc --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Put PASCAL VOC 2012, and SBD which extends it, where the data sets voc_2012_* expect them: below "
        "the folder that the environment variable DL_DATASETS names, else ./datasets.",
        epilog="With both of them there, the list ImageSets/Segmentation/trainaug.txt is written, too.",
        allow_abbrev=False,
    )
    parser.add_argument("--voc", type=Path, metavar="TAR", help="VOCtrainval_11-May-2012.tar, if you have it")
    parser.add_argument("--sbd", type=Path, metavar="TGZ", help="benchmark.tgz of SBD, if you have it")
    parser.add_argument("--download", action="store_true", help="download what is not given here, into that folder")
    arguments = parser.parse_args(argv)
    if not (arguments.voc or arguments.sbd or arguments.download):
        parser.error("there is nothing to do: name the archives that you have, or add --download")
    with user_errors(prog):
        from dl_lib.data.archives import fetch_archive
        from dl_lib.data.files import datasets_root

        given = []
        for archive, path in zip(published_archives(), (arguments.voc, arguments.sbd), strict=True):
            if path is not None:
                given.append((archive, path))
            elif arguments.download:
                given.append((archive, fetch_archive(archive, datasets_root())))
        prepare_voc(given)


def published_archives() -> tuple[PublishedArchive, PublishedArchive]:
    """VOC's and SBD's, with the addresses and checksums that torchvision knows."""
    from torchvision.datasets import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    from dl_lib.data.archives import PublishedArchive

    voc = DATASET_YEAR_DICT["2012"]
    sbd_parts = ("cls/", "img/", "train.txt", "val.txt")
    return (
        PublishedArchive(
            voc["filename"], voc["url"], voc["md5"], path_map={"VOCdevkit/VOC2012/": "VOCdevkit/VOC2012/"}
        ),
        PublishedArchive(
            SBDataset.filename,
            SBDataset.url,
            SBDataset.md5,
            path_map={f"benchmark_RELEASE/dataset/{part}": f"sbd/{part}" for part in sbd_parts},
        ),
    )


def prepare_voc(given: Sequence[tuple[PublishedArchive, Path]]) -> None:
    """Check and unpack archives, go over what is there then, and write the list of VOC extended by SBD.

    Args:
        given: archives and where they lie.

    Raises:
        DataError: if an archive is not what it should be, or something is missing afterwards.
        ImportError: if scipy, which reads SBD's labels, is not installed.
    """
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.archives import check_archive, unpack_archive
    from dl_lib.data.datasets.sbd import augmented_names
    from dl_lib.data.datasets.voc import voc_list
    from dl_lib.data.files import datasets_root
    from dl_lib.utils.files import write_atomically

    for archive, path in given:
        check_archive(path, archive)
    for archive, path in given:
        unpack_archive(path, archive, folder=datasets_root())
        print(f"{path} is unpacked in {datasets_root().absolute()}")
    for name in ("voc_2012_sem_seg_train", "voc_2012_sem_seg_val"):
        print(f"{name}: {len(DatasetCatalog.get(name)):,} images")
    if not (datasets_root() / "sbd").exists():
        print("SBD is not there, so neither is voc_2012_aug_sem_seg_train")
        return
    names = augmented_names()
    write_atomically(voc_list("trainaug"), "".join(f"{name}\n" for name in names))
    num_images = len(DatasetCatalog.get("voc_2012_aug_sem_seg_train"))
    differs = "" if num_images == EXPECTED_AUGMENTED else f", not the usual {EXPECTED_AUGMENTED:,}"
    print(f"voc_2012_aug_sem_seg_train: {num_images:,} images{differs}; they are listed in {voc_list('trainaug')}")
