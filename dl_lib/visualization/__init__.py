"""Figures as functions from data to `matplotlib.figure.Figure`.

Importing this package loads matplotlib, so callers import it where a figure is drawn.
"""
