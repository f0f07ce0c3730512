"""Frames of a video, and what is none."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from yoloqat.datasets.video import is_video, open_video, read_frames
from yoloqat.errors import DataError


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 32))
    for number in range(5):
        writer.write(np.full((32, 64, 3), 40 * number, np.uint8))
    writer.release()
    return path


def test_frames_come_in_batches_in_their_order(video):
    found = open_video(video)
    assert (found.rate, found.frames) == (10.0, 5)
    batches = list(read_frames(video, 64, 2))
    assert [len(frames) for _, frames in batches] == [2, 2, 1]
    assert [record.image_id for batch, _ in batches for record in batch.records] == [1, 2, 3, 4, 5]
    batch, frames = batches[1]
    assert (batch.images.shape, batch.images.dtype, frames[0].shape) == ((2, 3, 64, 64), np.float32, (32, 64, 3))
    assert batch.images[0, :, 32].mean() * 255 == pytest.approx(80, abs=4)
    assert batch.geometries[0].padding == (16, 0)


def test_a_grey_detector_gets_grey_frames(video):
    batch, frames = next(read_frames(video, 64, 2, channels=1))
    assert (batch.images.shape, frames[0].shape) == ((2, 1, 64, 64), (32, 64, 3))
    with pytest.raises(
        DataError, match=re.escape(f"video '{video}' has frames of 3 channels, and the model takes images of 6")
    ):
        next(read_frames(video, 64, 2, channels=6))


def test_what_is_no_video_is_one_line(tmp_path, capfd):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(
        DataError, match=re.escape(f"video '{broken}' cannot be read; expected a video that OpenCV opens")
    ):
        open_video(broken)
    assert capfd.readouterr() == ("", "")  # of FFmpeg neither
    with pytest.raises(DataError, match=re.escape(f"video '{tmp_path / 'absent.mp4'}' is no file")):
        open_video(tmp_path / "absent.mp4")
    assert is_video(broken)
    assert not is_video(tmp_path / "a.jpg")


def test_a_video_without_a_frame_is_told(video, monkeypatch):
    monkeypatch.setattr(cv2.VideoCapture, "read", lambda _: (False, None), raising=False)
    with pytest.raises(DataError, match=re.escape(f"video '{video}' has no frame that decodes")):
        next(read_frames(video, 64, 2))
