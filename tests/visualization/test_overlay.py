"""Label overlays and image grids: colors of pixels, placement of images, text that does not overlap."""

import numpy as np
import pytest

from dl_lib.data.catalog import DatasetMeta
from dl_lib.visualization.figure import to_image
from dl_lib.visualization.overlay import class_legend, draw_image_grid, overlay_labels
from tests.helpers.figures import assert_text_fits

META = DatasetMeta(("road", "car"), ((200, 0, 0), (0, 0, 200)), ignore_value=255)


def test_pixels_are_tinted_in_the_color_of_their_class():
    image = np.full((2, 2, 3), 100, np.uint8)
    tinted = overlay_labels(image, np.array([[0, 1], [255, 7]]), meta=META).astype(int)
    expected = [[[155, 45, 45], [45, 45, 155]], [[45, 45, 45], [100, 100, 100]]]
    assert np.abs(tinted - expected).max() <= 1, "values that are neither a class nor ignored leave the image unchanged"
    assert (image == 100).all()


def test_without_classes_the_image_is_unchanged():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(overlay_labels(image, np.full((2, 2), 9), meta=META), image)


def test_images_of_the_cell_width_are_drawn_pixel_by_pixel():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 50, 3)).astype(np.uint8) for height in (40, 70, 33, 51)]
    figure = draw_image_grid(
        [images[:2], images[2:]],
        column_titles=["image", "label"],
        row_titles=["one", "other"],
        cell_width=50,
        legend=class_legend(META),
    )
    drawn = to_image(figure)
    corners = []
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(drawn, image.shape)[:, :, 0]
        matches = np.argwhere((windows[:, :, 0, 0] == image[0, 0]).all(axis=2))
        found = [(y, x) for y, x in matches.tolist() if (windows[y, x] == image).all()]
        assert len(found) == 1
        corners += found
    (top, left), (top_right, right), (bottom, bottom_left), _ = corners
    assert top == top_right < bottom - 70 and left == bottom_left < right - 49


def test_images_are_resized_to_the_cell_width():
    image = np.full((30, 60, 3), (250, 10, 20), np.uint8)
    figure = draw_image_grid([[image]], column_titles=[""], row_titles=[""], cell_width=90, legend=class_legend(META))
    rows, columns = np.nonzero((to_image(figure) == image[0, 0]).all(axis=2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (45, 90)


def test_the_legend_names_every_class_and_ignored_pixels():
    assert class_legend(META) == {"road": (200, 0, 0), "car": (0, 0, 200), "ignored": (60, 60, 60)}


@pytest.mark.parametrize(("classes", "columns", "width"), [(2, 1, 60), (19, 3, 320), (150, 5, 320)])
def test_text_does_not_overlap(classes, columns, width):
    legend = {f"class {index} 道路 {'x' * (index % 40)}": (index, 0, 0) for index in range(classes)}
    image = np.zeros((32, 64, 3), np.uint8)
    figure = draw_image_grid(
        [[image] * columns] * 2,
        column_titles=[f"augmented {index} $x$" for index in range(columns)],
        row_titles=["frankfurt_000000_000294_leftImg8bit, 2048 x 1024" * 3, "other"],
        cell_width=width,
        legend=legend,
    )
    assert_text_fits(figure)


def test_an_extremely_wide_image_is_one_pixel_high():
    image = np.full((1, 500, 3), (250, 10, 20), np.uint8)
    figure = draw_image_grid([[image]], column_titles=[""], row_titles=[""], cell_width=90, legend=class_legend(META))
    rows, _ = np.nonzero((to_image(figure) == image[0, 0]).all(axis=2))
    assert np.ptp(rows) == 0
