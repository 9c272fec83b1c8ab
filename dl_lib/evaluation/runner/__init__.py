"""From images to predictions: running a model over data sets, in windows, at several scales."""
