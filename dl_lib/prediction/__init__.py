"""Predictions for new images: arrays, files, folders and videos."""
