"""Checks of figures."""

from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOLERANCE_PX = 1.0


def visible_texts(figure: Figure) -> list[Text]:
    """Return all texts of a figure that are drawn."""
    figure.draw_without_rendering()
    texts = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible() and artist.get_text())
    outside = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not _is_in_view(axis, tick.get_loc())
    }
    return [text for text in texts if id(text) not in outside]


def _is_in_view(axis: Axis, location: float) -> bool:
    place, *ends = axis.get_transform().transform([location, *axis.get_view_interval()])
    margin = 1e-6 * abs(ends[1] - ends[0])
    return min(ends) - margin <= place <= max(ends) + margin


def assert_text_fits(figure: Figure) -> None:
    """Check that no two texts overlap and that none is cut off at the edge of the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in visible_texts(figure)]
    assert boxes
    for text, box in boxes:
        inside = Bbox.intersection(box, figure.bbox)
        assert inside is not None and abs(inside.width - box.width) <= TOLERANCE_PX, text
        assert abs(inside.height - box.height) <= TOLERANCE_PX, text
    for (one, one_box), (other, other_box) in combinations(boxes, 2):
        common = Bbox.intersection(one_box, other_box)
        assert common is None or min(common.width, common.height) <= TOLERANCE_PX, (one, other)
