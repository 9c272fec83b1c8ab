"""Small report data with all fields."""

import numpy as np

from dl_lib.evaluation.scores.calibration import NUM_BINS, CalibrationCounts
from dl_lib.evaluation.scores.image_encoding import encode_class_indices, encode_jpeg
from dl_lib.evaluation.scores.report_data import ReportData, SampleImage


def jpeg(height, width, *, seed=0):
    return encode_jpeg(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def sample_image(image_id, *, size=(6, 9), num_classes=3, labelled=True):
    rng = np.random.default_rng(len(image_id))
    prediction, label = rng.integers(0, num_classes, (2, *size), np.uint8)
    label[0, :4] = 255
    encoded = encode_class_indices(label, num_classes=num_classes) if labelled else None
    return SampleImage(image_id, jpeg(*size), encode_class_indices(prediction, num_classes=num_classes), encoded)


def report_data(*, num_images=4, num_classes=3, labelled=True):
    image_ids = tuple(f"val/{index:03}_é" for index in range(num_images))
    counts = np.random.default_rng(0).integers(0, 9, (num_images, 3, num_classes))
    counts[:, 1:] += counts[:, :1]
    missing = counts[:, 1].sum(axis=1) - counts[:, 2].sum(axis=1)
    counts[:, 2, 0] += np.maximum(missing, 0)
    counts[:, 1, 0] -= np.minimum(missing, 0)
    pixels = np.arange(NUM_BINS)
    return ReportData(
        image_ids=image_ids,
        class_colors=np.arange(3 * num_classes, dtype=np.uint8).reshape(-1, 3),
        class_counts=counts if labelled else None,
        thumbnails={image_id: jpeg(4, 6, seed=index) for index, image_id in enumerate(image_ids[::2])},
        worst=tuple(map(sample_image, image_ids[:0:-1])) if labelled else (),
        most_expensive=tuple(sample_image(image_id, labelled=labelled) for image_id in image_ids[:2]),
        calibration=CalibrationCounts(pixels, pixels // 2, pixels * (pixels + 0.5) / NUM_BINS) if labelled else None,
    )
