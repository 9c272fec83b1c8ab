"""Keys of `DATASETS`, `DATALOADER` and `INPUT`: datasets, loading and augmentation."""

from __future__ import annotations

from dl_lib.config.choices import CacheMode, ChannelOrder, ResizeBackend, SampleErrorAction
from dl_lib.config.crop_size import AUTOMATIC_CROP, MAX_AUTOMATIC_CROP_PX
from dl_lib.config.key import Reference, key

__all__ = ["DATA_KEYS"]

_DATASETS = (
    key("DATASETS.TRAIN", [], "Names of the training datasets, which are concatenated.", items=str),
    key("DATASETS.TEST", [], "Names of the datasets to evaluate on, each separately.", items=str, order="unique"),
    key(
        "DATASETS.FOLDERS",
        [],
        "Datasets to register from folders of images and labels; entries have the keys `NAME`, `IMAGES`, `LABELS`, "
        "`SPLIT`, `IMAGE_PATTERN`, `LABEL_PATTERN`, `LABEL_SUFFIX`, `CLASSES`, `COLORS`, `LABEL_MAP`, `REDUCE_ZERO`, "
        "`COLOR_MAP` and `IGNORE_VALUE` (see `datasets/README.md`).",
        items=dict,
        path_entries=("IMAGES", "LABELS", "SPLIT", "COLOR_MAP"),
    ),
)

_LOADING = (
    key(
        "DATALOADER.NUM_WORKERS",
        4,
        "Number of data loading processes per training process.",
        range="[1, 1024]",
        special={0: "load in the training process"},
    ),
    key(
        "DATALOADER.CACHE",
        "none",
        "Cache of decoded samples: `memmap` decodes each image once into a memory-mapped file.",
        choices=CacheMode,
    ),
    key(
        "DATALOADER.CACHE_DIR",
        "",
        "Folder of the cache files; a relative path is relative to the dataset root.",
        special={"": "`.cache` in the dataset root"},
        is_path=True,
    ),
    key(
        "DATALOADER.ON_ERROR",
        "raise",
        "Action for a sample that cannot be read or has invalid labels: end the run (`raise`), or log and skip the "
        "sample (`skip`; training replaces it with another one).",
        choices=SampleErrorAction,
    ),
    key(
        "DATALOADER.MAX_SKIPPED",
        10,
        "Number of distinct samples that each process may skip; skipping more ends the run with an error.",
        range="[0, 1000000000]",
    ),
)

_INPUT = (
    key("INPUT.FORMAT", "BGR", "Channel order of the model input.", choices=ChannelOrder),
    key(
        "INPUT.BACKEND",
        "cv2",
        "Resize implementation: `cv2` (faster) or `pil` (antialiased when shrinking, as in the published results).",
        choices=ResizeBackend,
    ),
    key(
        "INPUT.MIN_SIZE_TRAIN",
        [],
        "Shorter edge in training, drawn from this list for each image.",
        unit="pixels",
        range="[1, 16384]",
        items=int,
        special={(): "keep the image size"},
    ),
    key(
        "INPUT.MAX_SIZE_TRAIN",
        4096,
        "Upper limit of the longer edge in training.",
        unit="pixels",
        range="[0, 32768]",
    ),
    key(
        "INPUT.SCALE_RANGE_TRAIN",
        [],
        "Lowest and highest scale, relative to the image size, drawn uniformly for each image; replaces "
        "`MIN_SIZE_TRAIN`.",
        range="[0.05, 20]",
        special={(): "use `MIN_SIZE_TRAIN`"},
        items=float,
        length=2,
        order="ascending",
    ),
    key(
        "INPUT.MIN_SIZE_TEST",
        0,
        "Shorter edge in evaluation.",
        unit="pixels",
        range="[1, 16384]",
        special={0: "keep the image size"},
    ),
    key(
        "INPUT.MAX_SIZE_TEST",
        2048,
        "Upper limit of the longer edge in evaluation; unused if `MIN_SIZE_TEST` is 0.",
        unit="pixels",
        range="[0, 32768]",
    ),
    key("INPUT.FLIP_PROB", 0.5, "Probability of a horizontal flip in training.", range="[0, 1]"),
    key(
        "INPUT.CROP_SIZE",
        list(AUTOMATIC_CROP),
        "Height and width of the random training crop; smaller images are padded.",
        unit="pixels",
        range="[1, 16384]",
        special={
            (): "no crop",
            AUTOMATIC_CROP: "height and width of the largest training image, rounded up to the coarsest stride of the "
            f"network, at most {MAX_AUTOMATIC_CROP_PX}",
        },
        length=2,
    ),
    key(
        "INPUT.CROP_IMAGE_PAD_VALUE",
        0,
        "Pixel value of the padding in all channels; its label is `MODEL.SEM_SEG_HEAD.IGNORE_VALUE`.",
        range="[0, 255]",
    ),
    key(
        "INPUT.CROP_MAX_CLASS_RATIO",
        1.0,
        "Maximum fraction of one class among the labelled pixels of a crop: the first of up to 10 random crops that "
        "satisfies it is used, otherwise the one with the smallest fraction.",
        range="(0, 1)",
        special={1: "use the first crop"},
    ),
    key(
        "INPUT.ROTATION_DEGREES",
        0.0,
        "Maximum angle of a random rotation in either direction, before the crop.",
        unit="degrees",
        range="[0, 180]",
    ),
    key("INPUT.BLUR_PROB", 0.0, "Probability of a Gaussian blur in training.", range="[0, 1]"),
    key(
        "INPUT.BLUR_SIGMA",
        [0.1, 2.0],
        "Lowest and highest standard deviation of the blur, drawn uniformly.",
        unit="pixels",
        range="[0.01, 100]",
        length=2,
        order="ascending",
    ),
    key(
        "INPUT.EXTRA_AUGMENTATIONS",
        [],
        "Registered augmentations of training, applied in this order after all others.",
        choices=Reference("dl_lib.data.transforms:AUGMENTATION_REGISTRY"),
        items=str,
        order="unique",
    ),
    key(
        "INPUT.PHOTOMETRIC.ENABLED",
        False,
        "Photometric distortion in training: brightness, contrast, saturation and hue, each with probability 0.5 "
        "(arXiv 1512.02325, section 2.2).",
    ),
    key(
        "INPUT.PHOTOMETRIC.BRIGHTNESS",
        32.0,
        "Maximum change of the pixel values (0 to 255), in both directions.",
        range="[0, 255]",
    ),
    key(
        "INPUT.PHOTOMETRIC.CONTRAST",
        0.5,
        "Maximum relative change of contrast: the factor is between 1 - this and 1 + this.",
        range="[0, 1]",
    ),
    key(
        "INPUT.PHOTOMETRIC.SATURATION",
        0.5,
        "Maximum relative change of saturation: the factor is between 1 - this and 1 + this.",
        range="[0, 1]",
    ),
    key(
        "INPUT.PHOTOMETRIC.HUE_DEGREES",
        18.0,
        "Maximum change of hue on the 360° color wheel, in both directions.",
        unit="degrees",
        range="[0, 180]",
    ),
)

DATA_KEYS = (*_DATASETS, *_LOADING, *_INPUT)
