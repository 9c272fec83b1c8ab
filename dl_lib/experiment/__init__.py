"""Experiments and trained runs on disk: their config, own code and weights."""
