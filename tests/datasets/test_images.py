from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yoloqat.datasets.images import decode, find_images, image_size, is_image
from yoloqat.errors import DataError


def test_extensions_match_whatever_their_case(tmp_path):
    assert is_image(tmp_path / "a.JPG")
    assert is_image(tmp_path / "a.b.jpeg")
    assert not is_image(tmp_path / "a.txt")
    assert not is_image(tmp_path / "jpg")


def test_size_is_read_from_the_head_and_equals_the_decoded_size(tmp_path, image_at):
    path = image_at(tmp_path / "a.png", width=17, height=5)
    assert image_size(path) == (17, 5)
    assert decode(path).shape == (5, 17, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_follow_the_orientation_tag(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (16, 8)).save(path, exif=exif)
    width, height = image_size(path)
    assert decode(path).shape[:2] == (height, width)


def test_size_of_a_format_that_only_opencv_knows(tmp_path, monkeypatch, image_at):
    path = image_at(tmp_path / "a.png", width=9, height=4)

    def refuse(_path):
        raise OSError("unknown format")

    monkeypatch.setattr("yoloqat.datasets.images.Image.open", refuse)
    assert image_size(path) == (9, 4)


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    grey, transparent = tmp_path / "g.png", tmp_path / "t.png"
    cv2.imwrite(str(grey), np.full((4, 5), 7, np.uint8))
    cv2.imwrite(str(transparent), np.full((4, 5, 4), 7, np.uint8))
    assert decode(grey).shape == decode(transparent).shape == (4, 5, 3)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_does_not_decode_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"image '{path}' does not decode")):
        image_size(path)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"image '{tmp_path / 'a.jpg'}' cannot be read")):
        decode(tmp_path / "a.jpg")


def test_images_are_found_in_subdirectories_and_sorted(tmp_path, image_at):
    second, first = image_at(tmp_path / "b" / "x.PNG"), image_at(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("")
    assert find_images(tmp_path) == [first, second]


def test_what_is_hidden_is_left_out(tmp_path, image_at):
    shown = image_at(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves beside a file")
    image_at(tmp_path / ".cache" / "b.png")
    assert find_images(tmp_path) == [shown]


def test_directories_that_are_links_are_entered_once_even_in_a_circle(tmp_path, image_at):
    image = image_at(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "part").symlink_to(image.parent)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "images")
    assert find_images(tmp_path / "images") == [tmp_path / "images" / "part" / "a.png"]


def test_a_directory_that_cannot_be_read_is_named_and_not_passed_over(tmp_path, image_at, monkeypatch):
    image_at(tmp_path / "a.png")
    image_at(tmp_path / "closed" / "b.png")
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    message = f"image directory '{tmp_path / 'closed'}' cannot be read (Permission denied)"
    with pytest.raises(DataError, match=re.escape(message)):
        find_images(tmp_path)


def test_a_directory_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"'{tmp_path}' holds no images")):
        find_images(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"image directory '{tmp_path / 'x'}' does not exist")):
        find_images(tmp_path / "x")
