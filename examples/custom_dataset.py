"""Train on images and labels of your own: a folder of images and a folder of PNG labels with the same file names.

    python examples/custom_dataset.py --images photos --labels masks --classes background,cat,dog --iterations 1000

The pixels of a label are class indices; 255 is ignored. Without folders, it trains on a few generated images.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from dl_lib.config import get_cfg
from dl_lib.data import register_folder_sem_seg
from dl_lib.engine import DefaultTrainer, default_setup
from dl_lib.experiment.config_file import find_config_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--classes", default="background,square")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--output", default="output/custom_dataset")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.images is None:
            arguments.images, arguments.labels = write_squares(Path(folder))
        train(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Train and evaluate the network of the quickstart on the two folders."""
    classes = arguments.classes.split(",")
    register_folder_sem_seg("my_dataset", images=arguments.images, labels=arguments.labels, classes=classes)

    cfg = get_cfg()
    cfg.merge_from_file(find_config_file("Quickstart"))  # a small network; its scenes are replaced:
    cfg.DATASETS.TRAIN = ["my_dataset"]
    cfg.DATASETS.TEST = ["my_dataset"]  # use images that are not trained on for a real evaluation
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = len(classes)
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SOLVER.LR_SCHEDULER.MAX_ITER = arguments.iterations
    cfg.SOLVER.LR_SCHEDULER.WARMUP_ITERS = min(50, arguments.iterations // 2)
    cfg.OUTPUT_DIR = arguments.output
    default_setup(cfg)

    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    print(f"mIoU on my_dataset: {trainer.results['my_dataset'].metrics.mean_iou:.3f}")


def write_squares(folder: Path) -> tuple[Path, Path]:
    """Write eight images of a bright square on noise, and their labels."""
    images, labels = folder / "images", folder / "labels"
    images.mkdir()
    labels.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        image, label = rng.integers(0, 128, (96, 96, 3), np.uint8), np.zeros((96, 96), np.uint8)
        top, left, side = rng.integers(8, 48, 3)
        image[top : top + side, left : left + side] += 120
        label[top : top + side, left : left + side] = 1
        Image.fromarray(image).save(images / f"{number}.png")
        Image.fromarray(label).save(labels / f"{number}.png")
    return images, labels


if __name__ == "__main__":
    main()
