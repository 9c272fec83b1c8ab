"""Figure of images, predictions and routes: drawn pixels and edges, text that does not overlap, equal bytes."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.visualization.figure import COLORS, save_figure, to_image
from dl_lib.visualization.image_routes import draw_image_routes
from tests.helpers.figures import assert_text_fits

LATTICE = Lattice([2, 3, 4, 4])


def draw(lattice=LATTICE, *, sizes=((96, 96),) * 3, seed=0, classes=3, name="x"):
    """Return the figure and its images, predictions and open edges."""
    rng = np.random.default_rng(seed)
    images, predictions = ([rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes] for _ in range(2))
    is_open = rng.random((len(sizes), len(lattice.edges))) < 0.6
    figure = draw_image_routes(
        lattice,
        images=images,
        predictions=predictions,
        is_open=is_open,
        captions=[f"most expensive: {name}"] * len(sizes),
        route_captions=["real cost: 119.4915 GFLOPs\n100 % of full cost, 149 of 149 edges"] * len(sizes),
        legend={f"class {index} {name}": (index, 0, 0) for index in range(classes)},
        title=f"Routes of some images of {name}",
    )
    return figure, images, predictions, is_open


@pytest.mark.parametrize("count", [1, 3])
def test_each_column_shows_an_image_its_prediction_and_its_open_edges(count):
    figure, images, predictions, is_open = draw(sizes=((96, 96),) * count)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    expected = [array for pair in zip(images, predictions, strict=True) for array in pair]
    assert len(drawn) == len(expected) and all(map(np.array_equal, drawn, expected))
    routes = [axes for axes in figure.axes if not axes.images]
    assert len(routes) == count
    for axes, opened in zip(routes, is_open, strict=True):
        lines = [item for item in axes.collections if isinstance(item, LineCollection)]
        closed, shared, some = ({tuple(map(tuple, line)) for line in item.get_segments()} for item in lines)
        kinds = {"closed": ~opened, "shared": is_open.all(axis=0), "some": opened & ~is_open.all(axis=0)}
        found = {"closed": closed, "shared": shared, "some": some}
        for kind, mask in kinds.items():
            edges = [edge for edge, is_kind in zip(LATTICE.edges, mask, strict=True) if is_kind]
            ends = {tuple((node.layer, node.scale) for node in (edge.source, edge.target)) for edge in edges}
            assert found[kind] == ends, kind
        assert to_rgba(COLORS[1]) in map(tuple, lines[2].get_colors())
        assert all(dashes is None for line in lines[1:] for _, dashes in line.get_linestyle()), "solid"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == (5 if count == 3 else 4) and names[-1].startswith("closed cell: ")


@pytest.mark.parametrize(
    ("cells", "sizes"),
    [
        ([1], [(32, 32)]),
        ([2, 3, 4, 4], [(96, 96)] * 3),
        ([2, 3] + [4] * 14, [(256, 512)] * 3),
        ([2, 3] + [4] * 31, [(400, 300), (1, 500), (500, 1)]),
        ([2, 3, 4, 5, 6, 7], [(96, 96)] * 2),
    ],
)
def test_text_does_not_overlap(cells, sizes):
    figure, *_ = draw(Lattice(cells), sizes=sizes, classes=9, name="frankfurt_000000 道路 $x$ " * 2)
    assert_text_fits(figure)
    assert figure.get_figwidth() <= 9.6, "must be legible at the width of a README"
    assert to_image(figure).shape[0] < 2000


def test_equal_data_give_equal_bytes(tmp_path):
    for name in ("one.png", "other.png"):
        save_figure(draw(seed=3)[0], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
