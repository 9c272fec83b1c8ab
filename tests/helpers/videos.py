"""Video files of frames with one color each."""

import cv2
import numpy as np

COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120))  # RGB, one frame each


def write_video(path, *, codec="mp4v", size=(32, 48), colors=COLORS, frames_per_second=5):
    """Write a video with frames of (height, width); return its path."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), frames_per_second, size[::-1])
    assert writer.isOpened()
    for color in colors:
        writer.write(np.full((*size, 3), color[::-1], np.uint8))
    writer.release()
    return path
