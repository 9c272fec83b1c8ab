"""Add an augmentation: a random gray rectangle whose label is ignored (random erasing, arXiv 1708.04896).

    python examples/custom_augmentation.py

In an experiment, put the registration into `net.py` next to `config.yaml`, which selects the augmentation:

    INPUT: {EXTRA_AUGMENTATIONS: [erasing]}
"""

from dataclasses import dataclass

import numpy as np

from dl_lib.config import CfgNode, get_cfg
from dl_lib.data.build import build_train_augmentations
from dl_lib.data.transforms import AUGMENTATION_REGISTRY, sample_transforms


@dataclass(frozen=True)
class Erase:
    """Transform that fills a rectangle."""

    rows: slice
    columns: slice
    value: int
    ignore_value: int

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return self._filled(image, self.value)

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return self._filled(label, self.ignore_value)

    def _filled(self, array: np.ndarray, value: int) -> np.ndarray:
        array = array.copy()
        array[self.rows, self.columns] = value
        return array


@dataclass(frozen=True)
class RandomErasing:
    """Augmentation that samples an `Erase` of half the image's height and width."""

    ignore_value: int

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> Erase:
        top, left = (int(rng.integers(side - side // 2 + 1)) for side in size)
        rows, columns = slice(top, top + size[0] // 2), slice(left, left + size[1] // 2)
        return Erase(rows, columns, value=int(rng.integers(256)), ignore_value=self.ignore_value)


@AUGMENTATION_REGISTRY.register()
def erasing(cfg: CfgNode) -> RandomErasing:
    """Build the augmentation."""
    return RandomErasing(cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)


def main() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.CROP_SIZE=[64, 96]", "INPUT.EXTRA_AUGMENTATIONS=[erasing]"])
    label = np.zeros((64, 96), np.uint8)
    for transform in sample_transforms(build_train_augmentations(cfg), rng=np.random.default_rng(0), size=label.shape):
        label = transform.apply_label(label)
    print(f"ignored pixels: {(label == 255).sum()} of {label.size}")


if __name__ == "__main__":
    main()
