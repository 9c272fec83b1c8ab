"""Kinds of output (`--save`). Does not import torch, so that the command line can name them quickly."""

__all__ = ["FORMATS", "LABELS", "OVERLAYS", "PROBABILITIES", "RECORDS"]

LABELS, OVERLAYS, PROBABILITIES, RECORDS = "labels", "overlays", "probabilities", "json"
FORMATS = (LABELS, OVERLAYS, PROBABILITIES, RECORDS)
