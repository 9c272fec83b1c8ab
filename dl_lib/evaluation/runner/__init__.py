"""Evaluation of models on datasets, with sliding windows and test-time augmentation."""
