"""Built-in datasets. Importing this package registers them in the catalog without reading any file."""

from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets.cityscapes import register_cityscapes
from dl_lib.data.datasets.digit_scenes import register_digit_scenes
from dl_lib.data.datasets.photo_scenes import register_photo_scenes
from dl_lib.data.datasets.sbd import register_voc_aug
from dl_lib.data.datasets.voc import register_voc

register_digit_scenes(DatasetCatalog)
register_photo_scenes(DatasetCatalog)
register_cityscapes(DatasetCatalog)
register_voc(DatasetCatalog)
register_voc_aug(DatasetCatalog)
