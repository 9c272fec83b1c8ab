"""Subcommand `dl_lib prepare-voc`: download and extraction of PASCAL VOC 2012 and SBD."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import user_path
from dl_lib.cli.errors import user_errors

if TYPE_CHECKING:
    from dl_lib.data.archives import PublishedArchive

__all__ = ["main", "prepare_voc", "published_archives"]

EXPECTED_AUGMENTED = 10582  # images of the published archives: `trainaug` in the literature


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib prepare-voc") -> None:
    """Download, verify and extract the archives; see `dl_lib prepare-voc --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Extract PASCAL VOC 2012 and its extension SBD for the datasets voc_2012_*, below the folder "
        "given by the environment variable DL_DATASETS (default: ./datasets).",
        epilog="The list ImageSets/Segmentation/trainaug.txt is written as well if both datasets are present.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--voc", type=user_path, metavar="TAR", help="local copy of VOCtrainval_11-May-2012.tar")
    add("--sbd", type=user_path, metavar="TGZ", help="local copy of benchmark.tgz of SBD")
    add("--download", action="store_true", help="download the archives that are not given, to that folder")
    arguments = parser.parse_args(argv)
    if not (arguments.voc or arguments.sbd or arguments.download):
        parser.error("at least one of --voc, --sbd and --download is required")
    with user_errors(prog):
        from dl_lib.config.paths import datasets_root
        from dl_lib.data.archives import fetch_archive
        from dl_lib.utils.output_path import prepare_folder

        prepare_folder(datasets_root(), key="DL_DATASETS")
        given = []
        for archive, path in zip(published_archives(), (arguments.voc, arguments.sbd), strict=True):
            if path is not None:
                given.append((archive, path))
            elif arguments.download:
                given.append((archive, fetch_archive(archive, datasets_root())))
        prepare_voc(given)


def published_archives() -> tuple[PublishedArchive, PublishedArchive]:
    """Return the archives of VOC and SBD, with the URLs and checksums in torchvision."""
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
    """Verify and extract archives, check the extracted datasets, and write the list of VOC extended by SBD.

    Raises:
        DataError: If an archive is invalid, or files are missing after extraction.
    """
    from dl_lib.config.paths import datasets_root
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.archives import check_archive, unpack_archive
    from dl_lib.data.datasets.sbd import augmented_names
    from dl_lib.data.datasets.voc import voc_list
    from dl_lib.utils.files import write_atomically

    for archive, path in given:
        check_archive(path, archive)
    for archive, path in given:
        unpack_archive(path, archive, folder=datasets_root())
        print(f"Extracted {path} to {datasets_root().absolute()}")
    for name in ("voc_2012_sem_seg_train", "voc_2012_sem_seg_val"):
        print(f"{name}: {len(DatasetCatalog.get(name)):,} images")
    if not (datasets_root() / "sbd").exists():
        print("voc_2012_aug_sem_seg_train: not available without SBD")
        return
    names = augmented_names()
    write_atomically(voc_list("trainaug"), "".join(f"{name}\n" for name in names))
    num_images = len(DatasetCatalog.get("voc_2012_aug_sem_seg_train"))
    expected = "" if num_images == EXPECTED_AUGMENTED else f" (expected {EXPECTED_AUGMENTED:,})"
    print(f"voc_2012_aug_sem_seg_train: {num_images:,} images{expected}, listed in {voc_list('trainaug')}")
