"""Evaluation of models on data sets, with sliding windows and test-time augmentation."""
