from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.datasets.splits import distinct, read_text, split_images
from yoloqat.errors import DataError, YoloqatWarning

LINES = [
    b"a.png",
    b"./a.png",
    b".\\a.png",
    b"",
    b" ",
    b"x\0.png",
    b"y" * 5000 + b".jpg",
    b"\xff.png",
    b".",
    b"..",
    b"/",
    b"/dev/zero",
    b"# a.png",
    b"a.png\r",
    b"\xef\xbb\xbfa.png",
    b"notes.doc",
    b"\\\\server\\a.png",
    b"C:\\a.png",
]


def test_a_missing_unreadable_or_binary_file_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"data set '{tmp_path / 'no.yaml'}' does not exist")):
        read_text(tmp_path / "no.yaml", "data set")
    with pytest.raises(DataError, match=re.escape(f"data set '{tmp_path}' cannot be read (Is a directory)")):
        read_text(tmp_path, "data set")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b.yaml' cannot be read \(it is not UTF-8 text\)"):
        read_text(tmp_path / "b.yaml", "data set")


def test_a_split_may_mix_lists_directories_and_images(tmp_path, image_at):
    listed = image_at(tmp_path / "one" / "a.png")
    inside = image_at(tmp_path / "two" / "b.png")
    single = image_at(tmp_path / "c.png")
    from_root = image_at(tmp_path / "root" / "d.png")
    (tmp_path / "one" / "list.txt").write_text("\ufeff./a.png\n\nd.png\n")
    sources = (tmp_path / "one" / "list.txt", tmp_path / "two", single)
    assert split_images(sources, tmp_path / "root", "val") == sorted([listed, inside, single, from_root])


def test_an_empty_list_a_missing_image_and_a_list_of_something_else_are_named(tmp_path, image_at):
    image_at(tmp_path / "a.png")
    file = tmp_path / "list.txt"
    long = "x" * 5000 + ".png"
    for content, message in (
        ("\n", f"val split '{file}' names no images"),
        ("a.doc\n\nb.doc\n", f"image list '{file}' names no image, e.g. 'a.doc'; expected one path a line that ends"),
        ("a.png\nb.png\n", f"image '{tmp_path / 'b.png'}' of val split '{file}' does not exist"),
        (long, "xxx... of val split"),
        ("a\0b.png", f"image '{tmp_path}/a\\x00b.png' of val split '{file}' does not exist"),
    ):
        file.write_text(content)
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            split_images((file,), tmp_path, "val")
        assert len(str(caught.value)) < 1500


def test_a_line_that_names_no_image_is_left_out_with_a_word(tmp_path, image_at):
    image = image_at(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("# mine\na.png\nnotes.doc\n")
    with pytest.warns(YoloqatWarning, match=r"2 lines of image list '.*list.txt' name no image .* e.g. '# mine'"):
        assert split_images((tmp_path / "list.txt",), tmp_path, "val") == [image]


def test_an_image_that_is_listed_twice_counts_once_in_val_and_twice_in_train(tmp_path, image_at):
    first, second = image_at(tmp_path / "a.png"), image_at(tmp_path / "b.png")
    (tmp_path / "list.txt").write_text("b.png\na.png\n./a.png\n")
    sources = (tmp_path / "list.txt",)
    assert split_images(sources, tmp_path, "train") == [first, first, second]
    with pytest.warns(YoloqatWarning, match=rf"names 1 image again, e.g. '{re.escape(str(first))}'; each counts once"):
        assert split_images(sources, tmp_path, "val") == [first, second]


@pytest.mark.parametrize(
    "line", [r"images\val\a.png", r".\images\val\a.png", "./images/val/a.png", " images/val/a.png\t"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_list_may_be_written_on_any_system(tmp_path, image_at, line, encoding, newline):
    image = image_at(tmp_path / "images" / "val" / "a.png")
    (tmp_path / "list.txt").write_bytes(f"{line}{newline}{newline}".encode(encoding))
    assert split_images((tmp_path / "list.txt",), tmp_path / "elsewhere", "val") == [image]


def test_a_line_is_found_from_the_list_then_the_root_then_the_working_directory(tmp_path, image_at, monkeypatch):
    places = [tmp_path / name for name in ("lists", "root", "work")]
    for place in places:
        image_at(place / "images" / "a.png")
    (tmp_path / "lists" / "l.txt").write_text("images/a.png\n")
    monkeypatch.chdir(tmp_path / "work")
    for found in (*places[:2], Path()):
        assert split_images((tmp_path / "lists" / "l.txt",), tmp_path / "root", "val") == [found / "images" / "a.png"]
        (found / "images" / "a.png").unlink()


def test_what_is_missing_is_not_called_a_list(tmp_path):
    for name in ("val.txt", "valid/images", "a.png", "x" * 5000):
        source = tmp_path / name
        with pytest.raises(DataError, match=re.escape(f"'{source}"[:300])) as caught:
            split_images((source,), tmp_path, "val")
        assert "of the val split does not exist; expected a directory of images, a list of them, or an" in str(
            caught.value
        )


def test_what_would_not_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (Path("/dev/zero"), tmp_path / "fifo"):
        with pytest.raises(DataError, match=re.escape(f"image list '{path}' cannot be read (it is no regular file)")):
            split_images((path,), tmp_path, "val")
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(DataError, match=r"large.txt' cannot be read \(it has 268435457 bytes, more than 268435456\)"):
        split_images((tmp_path / "large.txt",), tmp_path, "val")
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04\x00\xff")
    with pytest.raises(DataError, match=r"image list '.*model.pt' cannot be read \(it is not UTF-8 text\)"):
        split_images((tmp_path / "model.pt",), tmp_path, "val")


def test_distinct_paths_are_one_for_each_file(tmp_path, image_at):
    image = image_at(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to(image)
    assert distinct([image, tmp_path / "x" / ".." / "b.png", tmp_path / "a.png"]) == [tmp_path / "a.png"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from(LINES), max_size=5).map(lambda lines: b"\n".join(lines)),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
)
def test_whatever_a_list_holds_images_or_one_line_come_out(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.png").write_bytes(b"")
    (folder / "fuzzed.txt").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", YoloqatWarning)
        try:
            found, told = split_images((folder / "fuzzed.txt",), folder, "val"), ""
        except DataError as error:
            found, told = [folder / "a.png"], str(error)
    assert told.isprintable()
    assert found == [folder / "a.png"]
