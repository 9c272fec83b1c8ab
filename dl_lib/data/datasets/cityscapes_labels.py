"""Cityscapes label definitions.

Source: https://github.com/mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py; a test compares the two.
Label files contain ids. Networks predict train ids, 0..18; 255 is the ignore index.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CITYSCAPES_IGNORE", "CITYSCAPES_LABELS", "TRAIN_ID_TO_ID", "CityscapesLabel"]

CITYSCAPES_IGNORE = 255


@dataclass(frozen=True)
class CityscapesLabel:
    """Label definition."""

    id: int  # -1 does not occur in label files
    name: str
    train_id: int  # 255 and -1 are ignored
    category: str
    category_id: int  # 0 for void, 1..7 for the others
    has_instances: bool  # whether single objects are annotated as instances
    ignore_in_eval: bool  # whether pixels with this label are excluded from the score
    color: tuple[int, int, int]  # red, green, blue, 0..255


CITYSCAPES_LABELS = tuple(
    CityscapesLabel(*row)
    for row in (
        (0, "unlabeled", 255, "void", 0, False, True, (0, 0, 0)),
        (1, "ego vehicle", 255, "void", 0, False, True, (0, 0, 0)),
        (2, "rectification border", 255, "void", 0, False, True, (0, 0, 0)),
        (3, "out of roi", 255, "void", 0, False, True, (0, 0, 0)),
        (4, "static", 255, "void", 0, False, True, (0, 0, 0)),
        (5, "dynamic", 255, "void", 0, False, True, (111, 74, 0)),
        (6, "ground", 255, "void", 0, False, True, (81, 0, 81)),
        (7, "road", 0, "flat", 1, False, False, (128, 64, 128)),
        (8, "sidewalk", 1, "flat", 1, False, False, (244, 35, 232)),
        (9, "parking", 255, "flat", 1, False, True, (250, 170, 160)),
        (10, "rail track", 255, "flat", 1, False, True, (230, 150, 140)),
        (11, "building", 2, "construction", 2, False, False, (70, 70, 70)),
        (12, "wall", 3, "construction", 2, False, False, (102, 102, 156)),
        (13, "fence", 4, "construction", 2, False, False, (190, 153, 153)),
        (14, "guard rail", 255, "construction", 2, False, True, (180, 165, 180)),
        (15, "bridge", 255, "construction", 2, False, True, (150, 100, 100)),
        (16, "tunnel", 255, "construction", 2, False, True, (150, 120, 90)),
        (17, "pole", 5, "object", 3, False, False, (153, 153, 153)),
        (18, "polegroup", 255, "object", 3, False, True, (153, 153, 153)),
        (19, "traffic light", 6, "object", 3, False, False, (250, 170, 30)),
        (20, "traffic sign", 7, "object", 3, False, False, (220, 220, 0)),
        (21, "vegetation", 8, "nature", 4, False, False, (107, 142, 35)),
        (22, "terrain", 9, "nature", 4, False, False, (152, 251, 152)),
        (23, "sky", 10, "sky", 5, False, False, (70, 130, 180)),
        (24, "person", 11, "human", 6, True, False, (220, 20, 60)),
        (25, "rider", 12, "human", 6, True, False, (255, 0, 0)),
        (26, "car", 13, "vehicle", 7, True, False, (0, 0, 142)),
        (27, "truck", 14, "vehicle", 7, True, False, (0, 0, 70)),
        (28, "bus", 15, "vehicle", 7, True, False, (0, 60, 100)),
        (29, "caravan", 255, "vehicle", 7, True, True, (0, 0, 90)),
        (30, "trailer", 255, "vehicle", 7, True, True, (0, 0, 110)),
        (31, "train", 16, "vehicle", 7, True, False, (0, 80, 100)),
        (32, "motorcycle", 17, "vehicle", 7, True, False, (0, 0, 230)),
        (33, "bicycle", 18, "vehicle", 7, True, False, (119, 11, 32)),
        (-1, "license plate", -1, "vehicle", 7, False, True, (0, 0, 142)),
    )
)

TRAIN_ID_TO_ID = tuple(label.id for label in CITYSCAPES_LABELS if not label.ignore_in_eval)  # by train id, 0..18
