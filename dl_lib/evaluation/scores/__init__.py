"""Scores and cost statistics of predictions."""
