"""Segmentation losses and the budget constraint."""
