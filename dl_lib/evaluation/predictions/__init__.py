"""Files of predictions: label images and COCO run-length encoding."""
