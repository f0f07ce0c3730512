from __future__ import annotations

from dataclasses import replace

import pytest

from yoloqat.datasets import DetectionDataset, match_categories, warn_of_names
from yoloqat.datasets.categories import once_named, told_apart
from yoloqat.errors import DataError, YoloqatWarning


def dataset(names, used):
    """Return a data set of a COCO json whose category ids are ten times the positions of their names."""
    categories = [{"id": 10 * number, "name": name} for number, name in enumerate(names)]
    annotations = [{"category_id": 10 * number} for number in used]
    return DetectionDataset((), {}, {"categories": categories, "annotations": annotations, "images": []}, "labels.json")


def yolo(names, used):
    """Return a data set of YOLO label files."""
    annotations = {"categories": [], "annotations": [{"category_id": number} for number in used], "images": []}
    return DetectionDataset((), dict(enumerate(names)), annotations, "YOLO label files of 'd.yaml'", by_index=True)


class TestByName:
    def test_classes_are_matched_by_name_and_not_by_position(self):
        found = dataset(["dog", "cat"], [0, 1])
        assert match_categories(found, {0: "cat", 1: "dog "}) == {0: 10, 1: 0}
        warn_of_names(found, {0: "cat", 1: "dog "})  # of nothing

    def test_a_category_that_nothing_uses_needs_no_class(self):
        assert match_categories(dataset(["root", "cat"], [1]), {0: "cat"}) == {0: 10}

    def test_names_that_differ_in_case_alone_match_with_a_word(self):
        found = dataset(["Dog", "CAT"], [0, 1])
        assert match_categories(found, {0: "cat", 1: "dog"}) == {0: 10, 1: 0}
        with pytest.warns(
            YoloqatWarning, match=r"2 categories of 'labels.json' .* differ in case, e.g. 'CAT' for 'cat'"
        ):
            warn_of_names(found, {0: "cat", 1: "dog"})

    def test_equal_names_go_before_those_that_differ_in_case(self):
        assert match_categories(dataset(["Cat", "cat"], [0, 1]), {0: "cat", 1: "Cat"}) == {0: 10, 1: 0}
        assert match_categories(dataset(["Cat", "cat"], [1]), {0: "cat"}) == {0: 10}
        with pytest.raises(DataError, match=r"model classes without a category: 'CAT'; .*class: 'Cat', 'cat'\)"):
            match_categories(dataset(["Cat", "cat"], [0, 1]), {0: "CAT"})

    def test_names_that_do_not_match_are_listed(self):
        with pytest.raises(
            DataError, match=r"\(labels.json\).*model classes without a category: 'cut'; .*class: 'cat'\)"
        ):
            match_categories(dataset(["cat", "dog"], [0, 1]), {0: "cut", 1: "dog"})
        with pytest.raises(DataError, match=r"without a category: 'b', 'c', 'd', 'e', 'f' and 1 more\)"):
            match_categories(dataset(["a"], [0]), dict(enumerate("abcdefg")))

    def test_a_repeated_name_is_told(self):
        with pytest.raises(DataError, match="the data set has the class name 'cat' more than once"):
            match_categories(dataset(["cat", "cat"], []), {0: "cat"})
        with pytest.raises(DataError, match="the model has the class name 'cat' more than once"):
            match_categories(dataset(["cat"], []), {0: "cat", 1: "cat"})

    def test_of_categories_of_one_name_those_that_nothing_uses_are_left_out(self):
        found = dataset(["cat", "cat", "dog"], [1]).annotations
        assert [entry["id"] for entry in once_named(found)] == [10, 20]
        both = dataset(["cat", "cat"], [0, 1]).annotations
        assert once_named(both) == both["categories"]


class TestByIndex:
    def test_the_index_goes_before_the_name(self):
        found = yolo(["dog", "cat"], [0, 1])
        assert match_categories(found, {0: "cat", 1: "dog"}) == {0: 0, 1: 1}
        with pytest.warns(YoloqatWarning, match=r"2 of 2 classes .*d.yaml.* e.g. class 0 'dog' and 'cat'; .* by index"):
            warn_of_names(found, {0: "cat", 1: "dog"})

    def test_names_that_differ_in_case_are_told(self):
        with pytest.warns(YoloqatWarning, match=r"1 of 2 classes .* e.g. class 1 'Dog' and 'dog'"):
            warn_of_names(yolo(["cat", "Dog"], [0]), {0: "cat", 1: "dog"})

    def test_equal_names_and_a_bare_number_of_classes_give_no_warning(self):
        for names in (["cat", "dog "], ["class_0", "class_1"], ["class_0"]):
            warn_of_names(yolo(names, [0]), {0: "cat", 1: "dog"})

    def test_names_may_repeat(self):
        assert match_categories(yolo(["cat", "cat"], [0, 1]), {0: "cat", 1: "cat"}) == {0: 0, 1: 1}
        assert told_apart({0: "cat", 1: "dog", 2: "cat"}) == {0: "cat (0)", 1: "dog", 2: "cat (2)"}

    def test_fewer_or_more_classes_are_fine_where_those_that_both_have_are_the_same(self):
        assert match_categories(yolo(["cat"], [0]), {0: "cat", 1: "dog"}) == {0: 0, 1: 1}
        assert match_categories(yolo(["cat", "dog"], [0]), {0: "cat"}) == {0: 0}

    def test_a_label_of_a_class_that_the_model_lacks_is_told(self):
        with pytest.raises(DataError, match=r"d.yaml'\) and the model .*\(categories without a model class: 'dog'\)"):
            match_categories(yolo(["cat", "dog"], [0, 1]), {0: "cat"})

    def test_another_number_of_other_classes_is_told(self):
        with pytest.raises(DataError, match=r"without a category: 'person'; categories without a model class: 'cat'\)"):
            match_categories(yolo(["cat", "car"], [0]), {0: "person", 1: "car", 2: "bus"})

    def test_the_same_labels_by_name_are_other_classes(self):
        found = replace(dataset(["dog", "cat"], []), names={0: "dog", 1: "cat"})
        assert match_categories(found, {0: "cat", 1: "dog"}) != match_categories(
            replace(found, by_index=True), {0: "cat", 1: "dog"}
        )
