"""The data sets that come with the library; importing this package puts their names into the catalog."""

from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets.digit_scenes import register_digit_scenes

register_digit_scenes(DatasetCatalog)
