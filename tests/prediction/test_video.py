"""Frames of video files."""

import os

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


def test_implausible_frame_rates_are_unknown(tmp_path):
    assert Video.open(write_video(tmp_path / "clip.mp4", frames_per_second=2000)).frames_per_second == 0


@pytest.mark.parametrize("ratio", [1.0, 0.75])
def test_truncated_videos_end_early_with_a_warning(tmp_path, caplog, ratio):
    path = write_video(tmp_path / "clip.avi", codec="MJPG", colors=COLORS * 5)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * ratio)])
    stated = len(COLORS) * 5
    found = len(list(Video.open(path).frames()))
    if ratio == 1:
        assert found == stated and not caplog.messages
    else:
        assert 0 < found < stated
        assert caplog.messages == [
            f"{path}: decoded {found} frames of the {stated} that its header states; the file may be truncated"
        ]


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_damaged_videos(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"clip\.mp4 is not a video .*Received: {len(content)} bytes$"):
        Video.open(path)


def test_missing_videos_and_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("clip.mp4", "pipe.mp4"):
        with pytest.raises(MissingDataError, match=rf"^a video must be a regular file that exists; .*{name}'$"):
            Video.open(tmp_path / name)


def test_a_video_without_frames(tmp_path):
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (48, 32)).release()
    with pytest.raises(DataError):
        list(Video.open(path).frames())
