"""Checks of figures."""

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

TOLERANCE_PX = 1.0


def assert_text_fits(figure: Figure) -> None:
    """Check that no two texts of a figure overlap and that none is cut off at its edge."""
    texts = visible_texts(figure)
    assert texts
    names = [text.get_text() for text in texts]
    boxes_N22 = np.array([text.get_window_extent().get_points() for text in texts])  # lower left, upper right corner
    start_N2, end_N2 = boxes_N22[:, 0], boxes_N22[:, 1]
    fits = (start_N2 >= -TOLERANCE_PX) & (end_N2 <= np.array(figure.bbox.size) + TOLERANCE_PX)
    assert fits.all(), [names[index] for index in np.flatnonzero(~fits.all(axis=1))]
    common_NN2 = np.minimum(end_N2[:, None], end_N2) - np.maximum(start_N2[:, None], start_N2)
    overlaps_NN = np.triu((common_NN2 > TOLERANCE_PX).all(axis=2), k=1)
    assert not overlaps_NN.any(), [(names[one], names[other]) for one, other in np.argwhere(overlaps_NN)]


def visible_texts(figure: Figure) -> list[Text]:
    """Return all texts of a figure that are drawn."""
    figure.draw_without_rendering()
    texts = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible() and artist.get_text())
    out_of_view = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not _is_in_view(axis, tick.get_loc())
    }
    return [text for text in texts if id(text) not in out_of_view]


def _is_in_view(axis: Axis, location: float) -> bool:
    position, *ends = axis.get_transform().transform([location, *axis.get_view_interval()])
    margin = 1e-6 * abs(ends[1] - ends[0])
    return min(ends) - margin <= position <= max(ends) + margin
