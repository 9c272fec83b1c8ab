import numpy as np
import pytest

from dl_lib.data.catalog import DatasetMeta
from dl_lib.data.contact_sheet import draw_contact_sheet, draw_key, overlay_label

META = DatasetMeta(("road", "car"), ((200, 0, 0), (0, 0, 200)), ignore_value=255)


def test_each_pixel_is_tinted_in_its_classs_colour():
    image = np.full((2, 2, 3), 100, np.uint8)
    tinted = overlay_label(image, np.array([[0, 1], [255, 7]]), meta=META)
    assert tinted[0, 0].tolist() == [155, 45, 45]
    assert tinted[0, 1].tolist() == [45, 45, 155]
    assert tinted[1, 0].tolist() == [45, 45, 45]
    assert tinted[1, 1].tolist() == [100, 100, 100], "what is no class stays as it is"
    assert (image == 100).all()


@pytest.mark.parametrize("size", [(40, 80), (300, 100)])
def test_every_picture_stands_on_the_sheet(size):
    colors = ((250, 10, 20), (30, 240, 50), (60, 70, 230), (80, 90, 100))
    pictures = [np.full((*size, 3), color, np.uint8) for color in colors]
    sheet = draw_contact_sheet(
        [pictures[:2], pictures[2:]],
        titles=["a", "b"],
        captions=["one", "two"],
        cell_width=50,
        key=draw_key(META, width=120),
    )
    height = round(size[0] * 50 / size[1])
    for color in colors:
        rows, columns = np.nonzero((sheet == color).all(axis=2))
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (height, 50)
    for color in META.class_colors:
        assert (sheet == color).all(axis=2).any(), "the key shows every class"
