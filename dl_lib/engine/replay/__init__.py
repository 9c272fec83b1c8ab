"""Repetition of a saved training step with statistics of every layer."""
