"""Augmentation: a rule draws a frozen transform, which is then applied to image and label alike.

Drawing needs only the image's size, so what is drawn can be looked at, logged and tested without a pixel; the one
exception, a crop that the label chooses, is `CropChoice`. Images are (H, W, 3) uint8 RGB, labels (H, W) of any integer
type; sizes are (height, width) in pixels.
"""

from dl_lib.data.transforms.augmentations import (
    RandomCropPad,
    RandomFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)
from dl_lib.data.transforms.color import ColorShift, GaussianBlur, PhotometricDistortion, RandomBlur
from dl_lib.data.transforms.crop_choice import CropChoice
from dl_lib.data.transforms.draw import Augmentation, draw_transforms
from dl_lib.data.transforms.fused import FusedCrop, fuse
from dl_lib.data.transforms.geometry import CropPad, HorizontalFlip, Rotate
from dl_lib.data.transforms.resize import BACKENDS, Resize
from dl_lib.data.transforms.transform import Transform

__all__ = [
    "BACKENDS",
    "Augmentation",
    "ColorShift",
    "CropChoice",
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
    "draw_transforms",
    "fuse",
]
