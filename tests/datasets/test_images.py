from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yoloqat.datasets.images import decode, find_images, image_size, is_image, readable_images
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


STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Orientation to what makes stored pixels of upright ones."""

LOSSLESS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "MPO": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def upright():
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((16, 16, 1), np.uint8)))


def stored(orientation):
    return upright() if orientation == 1 else upright().transpose(STORED[orientation])


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_turned_image_is_what_the_same_pixels_stored_upright_are(tmp_path, kind, orientation):
    turned, straight = tmp_path / f"turned.{kind}", tmp_path / f"straight.{kind}"
    stored(orientation).save(turned, kind, exif=exif_of(orientation), **LOSSLESS[kind])
    upright().save(straight, kind, **LOSSLESS[kind])
    assert image_size(turned) == image_size(straight) == (48, 32)
    difference = np.abs(decode(turned).astype(int) - decode(straight))
    assert difference.max() <= (0 if kind in ("PNG", "WEBP", "TIFF") else 6)


def png(*chunks):
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path):
    path = tmp_path / "late.png"
    stored(6).save(path)
    late = png((b"eXIf", exif_of(6).tobytes().removeprefix(b"Exif\0\0")))[8:]
    path.write_bytes(path.read_bytes()[:-12] + late + path.read_bytes()[-12:])
    assert image_size(path) == (48, 32)
    np.testing.assert_array_equal(decode(path), np.asarray(upright())[:, :, ::-1])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_is_none(tmp_path, orientation):
    path = tmp_path / "a.webp"
    upright().save(path, exif=exif_of(orientation), lossless=True)
    assert image_size(path) == (48, 32)
    np.testing.assert_array_equal(decode(path), np.asarray(upright())[:, :, ::-1])


def test_damaged_exif_is_none(tmp_path):
    path = tmp_path / "a.png"
    upright().save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert image_size(path) == (48, 32)
    np.testing.assert_array_equal(decode(path), np.asarray(upright())[:, :, ::-1])


def test_an_orientation_in_xmp_alone_counts_for_neither_size_nor_pixels(tmp_path):
    path = tmp_path / "a.jpg"
    upright().save(path, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    assert image_size(path) == (48, 32)
    assert decode(path).shape == (32, 48, 3)


@pytest.mark.parametrize("side", [65000, 13_500])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(png((b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")))
    for read in (image_size, decode):
        with pytest.raises(DataError, match=re.escape(f"image '{path}' is too large (") + f".*{side * side}"):
            read(path)


def test_a_pipe_and_a_device_are_never_opened(tmp_path):
    pipe, zero = tmp_path / "a.png", tmp_path / "b.png"
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    for path in (pipe, zero, tmp_path):
        for read in (image_size, decode):
            with pytest.raises(DataError, match=re.escape(f"image '{path}' cannot be read (it is no regular file)")):
                read(path)


def test_a_file_larger_than_any_image_is_never_read(tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    os.truncate(path, 1 << 40)
    for read in (image_size, decode):
        with pytest.raises(
            DataError, match=re.escape(f"image '{path}' cannot be read (it has {1 << 40} bytes, more than")
        ):
            read(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a\0b.png", "null byte"), ("a" * 5000 + ".png", "File name too long"), ("\ud800.png", "surrogates not allowed")],
)
def test_a_name_that_no_file_can_have_is_told(tmp_path, name, reason):
    with pytest.raises(DataError, match=rf"cannot be read \(.*{reason}"):
        image_size(tmp_path / name)


def test_images_that_do_not_decode_are_left_out_where_asked(tmp_path, image_at):
    good, bad, headless = image_at(tmp_path / "a.png"), image_at(tmp_path / "b.png", 300, 300), tmp_path / "c.png"
    bad.write_bytes(bad.read_bytes()[:60])  # the head is whole
    headless.write_bytes(b"no image")
    skipped = []
    assert readable_images([good, bad, headless], skipped) == [good]
    assert skipped == [bad, headless]
    assert readable_images([good, bad], None) == [good, bad]


def saved(kind):
    buffer = io.BytesIO()
    stored(6).save(buffer, kind, exif=exif_of(6), **LOSSLESS[kind])
    return buffer.getvalue()


SAMPLES = {kind: saved(kind) for kind in LOSSLESS}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_no_bytes_end_in_another_error(data):
    kind = data.draw(st.sampled_from([*SAMPLES]))
    content = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    with tempfile.NamedTemporaryFile(suffix=f".{kind}") as file:
        file.write(content)
        file.flush()
        path = Path(file.name)
        with contextlib.suppress(DataError):
            assert image_size(path) == decode(path).shape[1::-1]


def test_size_and_pixels_of_a_format_that_only_opencv_knows(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    stored(6).save(path, exif=exif_of(6))

    def refuse(_file):
        raise OSError("unknown format")

    monkeypatch.setattr("yoloqat.datasets.images.Image.open", refuse)
    assert image_size(path) == (48, 32)
    assert decode(path).shape == (32, 48, 3)


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


def test_a_model_of_one_channel_gets_grey_images(tmp_path, image_at):
    path = image_at(tmp_path / "colour.png", width=9, height=4)
    found = decode(path, 1)
    assert found.shape == (4, 9, 1)
    np.testing.assert_array_equal(found[:, :, 0], cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def test_a_model_of_four_channels_gets_what_the_file_has(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    path = tmp_path / "transparent.png"
    cv2.imwrite(str(path), pixels)
    np.testing.assert_array_equal(decode(path, 4), pixels)


def test_pages_of_a_grey_tiff_are_channels_and_of_16_bits_the_upper_8_are_taken(tmp_path):
    pages = [np.random.default_rng(page).integers(0, 1 << 16, (4, 5), dtype=np.uint16) for page in range(5)]
    path = tmp_path / "spectrum.tiff"
    cv2.imwritemulti(str(path), pages)
    np.testing.assert_array_equal(decode(path, 5), np.stack(pages, axis=2) >> 8)


def test_images_of_another_number_of_channels_are_named(tmp_path, image_at):
    path = image_at(tmp_path / "colour.png")
    with pytest.raises(DataError, match=re.escape(f"image '{path}' has 3 channels of uint8; expected 4 channels")):
        decode(path, 4)
    values = tmp_path / "values.tiff"
    cv2.imwrite(str(values), np.zeros((4, 5, 4), dtype=np.float32))
    with pytest.raises(DataError, match=re.escape(f"image '{values}' has 4 channels of float32; expected 4 channels")):
        decode(values, 4)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
def test_nothing_that_is_no_image_decodes(tmp_path, channels, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=re.escape(f"image '{path}' does not decode")):
        decode(path, channels)
