"""Figures as functions from data to `matplotlib.figure.Figure`.

The modules of this package load matplotlib, so callers import them in the function that draws.
"""

__all__ = ["FIGURE_SUFFIXES"]

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")  # formats that a figure can be saved as
