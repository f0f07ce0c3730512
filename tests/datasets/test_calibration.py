from __future__ import annotations

import re

import pytest

from yoloqat.datasets import calibration_images
from yoloqat.errors import ConfigError, DataError


def test_the_choice_is_seeded_sorted_and_from_the_training_split(yolo_yaml):
    chosen = calibration_images(yolo_yaml, 2, seed=3)
    assert chosen == calibration_images(yolo_yaml, 2, seed=3)
    assert [image.path for image in chosen] == sorted(image.path for image in chosen)
    assert {image.path.parent.name for image in chosen} == {"train"}
    assert len({calibration_images(yolo_yaml, 2, seed=seed) for seed in range(20)}) > 1


def test_a_directory_is_taken_as_it_is(yolo_yaml):
    found = calibration_images(yolo_yaml.parent / "images" / "train", 4)
    assert [image.path.name for image in found] == ["0.JPG", "1.JPG", "2.JPG", "3.JPG"]
    assert [(image.image_id, image.width, image.height) for image in found] == [(n, 8, 6) for n in (1, 2, 3, 4)]


def test_too_few_images_are_told_with_both_numbers(yolo_yaml):
    with pytest.raises(DataError, match=re.escape(f"'{yolo_yaml}' has 4 images to calibrate on and 5 were asked for")):
        calibration_images(yolo_yaml, 5)


def test_a_yaml_without_a_training_split_is_told(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("val: x\nnames: [a]\n")
    with pytest.raises(DataError, match=re.escape(f"data set '{file}' has no train split")):
        calibration_images(file, 1)


def test_a_missing_directory_is_not_called_a_file(tmp_path):
    for source in (tmp_path / "no", tmp_path / ("x" * 5000)):
        with pytest.raises(DataError, match=re.escape(f"'{source}"[:300])) as caught:
            calibration_images(source, 1)
        assert "does not exist; expected a directory of images, or a data set YAML" in str(caught.value)


def test_the_number_is_checked(yolo_yaml):
    with pytest.raises(ConfigError, match="count is 0"):
        calibration_images(yolo_yaml, 0)


def test_others_are_chosen_in_the_place_of_images_that_do_not_decode(yolo_yaml):
    train = yolo_yaml.parent / "images" / "train"
    whole = calibration_images(yolo_yaml, 2, seed=3)
    assert calibration_images(yolo_yaml, 2, seed=3, skipped=[]) == whole
    whole[0].path.write_bytes(b"no image")
    skipped = []
    chosen = calibration_images(yolo_yaml, 2, seed=3, skipped=skipped)
    assert skipped == [whole[0].path]
    assert len(chosen) == 2
    assert whole[1].path in [image.path for image in chosen]
    assert whole[0].path not in [image.path for image in chosen]
    found = calibration_images(train, 2, select="first", skipped=[])
    assert [image.path for image in found] == sorted(set(train.iterdir()) - {whole[0].path})[:2]


def test_too_few_that_decode_are_told_with_both_numbers(yolo_yaml):
    for number in (0, 2):
        (yolo_yaml.parent / "images" / "train" / f"{number}.JPG").write_bytes(b"")
    message = f"only 2 of the 4 images of '{yolo_yaml}' decode and 3 were asked for"
    with pytest.raises(DataError, match=re.escape(message)):
        calibration_images(yolo_yaml, 3, skipped=[])
    assert len(calibration_images(yolo_yaml, 1, select="range", skipped=[])) == 2


def test_an_image_that_is_listed_twice_is_one_image(yolo_yaml):
    (yolo_yaml.parent / "train.txt").write_text("images/train/0.JPG\n./images/train/0.JPG\nimages/train/1.JPG\n")
    yolo_yaml.write_text(yolo_yaml.read_text().replace("images/train", "train.txt"))
    assert [image.path.name for image in calibration_images(yolo_yaml, 2)] == ["0.JPG", "1.JPG"]
    with pytest.raises(DataError, match="has 2 images to calibrate on and 3 were asked for"):
        calibration_images(yolo_yaml, 3)
