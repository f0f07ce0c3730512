from __future__ import annotations

import pytest

from yoloqat.datasets import DetectionDataset, match_categories
from yoloqat.errors import DataError


def dataset(names, used):
    categories = [{"id": 10 * number, "name": name} for number, name in enumerate(names)]
    annotations = [{"category_id": 10 * number} for number in used]
    return DetectionDataset((), {}, {"categories": categories, "annotations": annotations, "images": []}, "labels.json")


def test_classes_are_matched_by_name_and_not_by_position():
    assert match_categories(dataset(["dog", "cat"], [0, 1]), {0: "cat", 1: "dog "}) == {0: 10, 1: 0}


def test_a_category_that_nothing_uses_needs_no_class():
    assert match_categories(dataset(["root", "cat"], [1]), {0: "cat"}) == {0: 10}


def test_names_that_do_not_match_are_listed():
    with pytest.raises(DataError, match=r"\(labels.json\).*model classes without a category: 'Cat'; .*class: 'cat'\)"):
        match_categories(dataset(["cat", "dog"], [0, 1]), {0: "Cat", 1: "dog"})
    with pytest.raises(DataError, match=r"without a category: 'b', 'c', 'd', 'e', 'f' and 1 more\)"):
        match_categories(dataset(["a"], [0]), dict(enumerate("abcdefg")))


def test_a_repeated_name_is_told():
    with pytest.raises(DataError, match="the data set has the class name 'cat' more than once"):
        match_categories(dataset(["cat", "cat"], []), {0: "cat"})
    with pytest.raises(DataError, match="the model has the class name 'cat' more than once"):
        match_categories(dataset(["cat"], []), {0: "cat", 1: "cat"})
