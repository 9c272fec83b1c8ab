"""Datasets: catalog, transforms and data loaders."""

from dl_lib.data import datasets as _datasets  # noqa: F401  (registers the built-in datasets)
from dl_lib.data.build import build_test_loader, build_train_loader
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.coco import register_coco_sem_seg
from dl_lib.data.datasets.configured import register_folders
from dl_lib.data.datasets.folder import register_folder_sem_seg

__all__ = [
    "DatasetCatalog",
    "DatasetMeta",
    "build_test_loader",
    "build_train_loader",
    "register_coco_sem_seg",
    "register_folder_sem_seg",
    "register_folders",
]
