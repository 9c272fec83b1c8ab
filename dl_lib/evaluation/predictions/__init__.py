"""Predictions as files: label images, run lengths, the archives that servers take."""
