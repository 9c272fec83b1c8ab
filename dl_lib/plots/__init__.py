"""Curves as pictures: axes, charts, sheets of them, and what is drawn of a run's metrics."""
