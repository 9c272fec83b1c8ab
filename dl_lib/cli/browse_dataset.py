"""Subcommand `dl_lib browse-dataset`: figure of samples with labels, before and after augmentation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.cli.arg_types import figure_path, int_between
from dl_lib.cli.arguments import parse_arguments
from dl_lib.cli.dataset_arguments import dataset_parser, read_dataset_config
from dl_lib.cli.errors import user_errors

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from dl_lib.config import CfgNode
    from dl_lib.data.catalog import DatasetMeta

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib browse-dataset") -> None:
    """Draw samples of a dataset; see `dl_lib browse-dataset --help`."""
    parser = dataset_parser(
        prog=prog,
        description="Draw evenly spaced samples of a dataset: the image, the image with labels, and both after the "
        "training augmentation of the config (INPUT).",
    )
    add = parser.add_argument
    add("--output", type=figure_path, metavar="FILE", help=".png, .svg or .pdf (default: output/browse_NAME.png)")
    add("--count", type=int_between(1, 1000), default=6, metavar="N", help="number of samples (default: 6)")
    add(
        "--variants",
        type=int_between(1, 100),
        default=3,
        metavar="N",
        help="augmented variants per sample (default: 3)",
    )
    add(
        "--cell-width",
        type=int_between(16, 4096),
        default=320,
        metavar="PX",
        help="width of each image in pixels (default: 320)",
    )
    arguments = parse_arguments(parser, argv)
    path = arguments.output or Path("output", f"browse_{arguments.name}.png")
    with user_errors(prog):
        from dl_lib.visualization.figure import save_figure

        save_figure(_draw(arguments), path)
    print(f"Wrote {path.absolute()}")


def _draw(arguments: argparse.Namespace) -> Figure:
    from dl_lib.config.crop_size import has_automatic_crop
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.raw_dataset import sampled_indices
    from dl_lib.engine.image_sizes import automatic_crop
    from dl_lib.utils.progress import progress_bar
    from dl_lib.visualization.overlay import class_legend, draw_image_grid

    cfg, meta = read_dataset_config(arguments)
    if has_automatic_crop(cfg):
        cfg = cfg.with_values({"INPUT.CROP_SIZE": automatic_crop(cfg, [arguments.name])})
    dataset = DatasetCatalog.get(arguments.name)
    indices = sampled_indices(dataset, limit=arguments.count)
    variants = arguments.variants if meta.labelled else 0
    titles = ["image", *(["label"] if meta.labelled else []), *(f"augmented {n + 1}" for n in range(variants))]
    rows, captions = [], []
    with progress_bar(len(indices), description=f"drawing {arguments.name}", unit="image") as bar:
        for index in indices:
            sample = dataset[index]
            rows.append(_row(sample, cfg=cfg, meta=meta, index=index, variants=variants))
            captions.append(f"{index}: {sample['image_id']}, {sample['image'].shape[1]} x {sample['image'].shape[0]}")
            bar.update()
    return draw_image_grid(
        rows,
        column_titles=titles,
        row_titles=captions,
        cell_width=arguments.cell_width,
        legend=class_legend(meta),
    )


def _row(sample: Any, *, cfg: CfgNode, meta: DatasetMeta, index: int, variants: int) -> list[np.ndarray]:
    import numpy as np

    from dl_lib.data.build import build_train_augmentations
    from dl_lib.data.mapper import DatasetMapper
    from dl_lib.visualization.overlay import overlay_labels

    if not meta.labelled:
        return [sample["image"]]
    mapper = DatasetMapper(
        build_train_augmentations(cfg),
        channel_order="RGB",
        num_classes=meta.num_classes,
        ignore_value=meta.ignore_value,
        transform_label=True,
    )
    seeds = [[max(0, cfg.SEED), epoch, index] for epoch in range(variants)]  # as in training
    mapped = [mapper(sample, rng=np.random.default_rng(seed)) for seed in seeds]  # first: it checks the sizes
    pairs = [(variant["image"].permute(1, 2, 0).numpy(), variant["sem_seg"].numpy()) for variant in mapped]
    pairs.insert(0, (sample["image"], sample["sem_seg"]))
    return [sample["image"], *(overlay_labels(image, label, meta=meta) for image, label in pairs)]
