"""Frames of video files."""

import cv2
import numpy as np
import pytest

from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.prediction.video import Video
from tests.helpers.videos import COLORS, write_video


def test_frames_are_rgb_in_order(tmp_path):
    video = Video.open(write_video(tmp_path / "clip.mp4"))
    assert video.frames_per_second == 5
    frames = list(video.frames())
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * len(COLORS)
    for frame, color in zip(frames, COLORS, strict=True):
        np.testing.assert_allclose(frame.mean(axis=(0, 1)), color, atol=12)


def test_truncated_videos_end_early(tmp_path):
    path = write_video(tmp_path / "clip.avi", codec="MJPG", colors=COLORS * 5)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    video = Video.open(path)
    assert 0 < len(list(video.frames())) < len(COLORS) * 5


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_damaged_videos(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"clip\.mp4 is not a video .*Received: {len(content)} bytes$"):
        Video.open(path)


def test_missing_videos(tmp_path):
    with pytest.raises(MissingDataError, match=r"^video file does not exist"):
        Video.open(tmp_path / "clip.mp4")


def test_a_video_without_frames(tmp_path):
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (48, 32)).release()
    with pytest.raises(DataError):
        list(Video.open(path).frames())
