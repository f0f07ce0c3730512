"""What is fetched, and from where."""

from __future__ import annotations

import re

import pytest

from yoloqat.datasets.download_source import COCO2017
from yoloqat.errors import ConfigError


def test_addresses_join_whatever_the_base_ends_in():
    archive = COCO2017.archives[1]
    assert COCO2017.url(archive) == "http://images.cocodataset.org/zips/val2017.zip"
    assert COCO2017.at("https://mirror.example/coco/").url(archive) == "https://mirror.example/coco/zips/val2017.zip"
    assert COCO2017.at(None) is COCO2017


@pytest.mark.parametrize("base", ["", "mirror.example", "file:///data", "http://", "http://[", "ftp://a/b"])
def test_another_kind_of_address_is_refused(base):
    with pytest.raises(ConfigError, match=re.escape(f"the server's address is '{base}'")):
        COCO2017.at(base)


def test_only_the_archives_and_parts_of_a_split_are_kept():
    val = COCO2017.of(frozenset({"val"}))
    assert [archive.name for archive in val.archives] == ["annotations_trainval2017.zip", "val2017.zip"]
    assert {part.target for archive in val.archives for part in archive.parts} == {
        "annotations/instances_val2017.json",
        "images/val2017",
    }
    assert COCO2017.of(frozenset({"val", "train"})) == COCO2017
