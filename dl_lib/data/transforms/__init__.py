"""Augmentations: each samples a frozen transform, which is applied to the image and its label.

Sampling only needs the image size, so sampled transforms can be inspected, logged and tested without an image; the one
exception is a crop selected by its label, `CropCandidates`. Images are (H, W, 3) uint8 RGB, labels (H, W) of any
integer dtype; sizes are (height, width) in pixels.
"""

from dl_lib.data.transforms.augmentations import (
    RandomCropPad,
    RandomFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)
from dl_lib.data.transforms.color import ColorShift, GaussianBlur, PhotometricDistortion, RandomBlur
from dl_lib.data.transforms.crop_candidates import CropCandidates
from dl_lib.data.transforms.geometry import CropPad, HorizontalFlip, Rotate
from dl_lib.data.transforms.pipeline import (
    AUGMENTATION_REGISTRY,
    Augmentation,
    FusedCrop,
    Transform,
    fuse,
    sample_transforms,
)
from dl_lib.data.transforms.resize import BACKENDS, Resize

__all__ = [
    "AUGMENTATION_REGISTRY",
    "BACKENDS",
    "Augmentation",
    "ColorShift",
    "CropCandidates",
    "CropPad",
    "FusedCrop",
    "GaussianBlur",
    "HorizontalFlip",
    "PhotometricDistortion",
    "RandomBlur",
    "RandomCropPad",
    "RandomFlip",
    "RandomRotation",
    "RandomScale",
    "Resize",
    "ResizeShortestEdge",
    "Rotate",
    "Transform",
    "fuse",
    "sample_transforms",
]
