"""Data: from names in the catalog to batches of mapped samples."""

from dl_lib.data import datasets as _datasets  # noqa: F401  (fills the catalog)
from dl_lib.data.build import build_test_loader, build_train_loader
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta

__all__ = ["DatasetCatalog", "DatasetMeta", "build_test_loader", "build_train_loader"]
