"""The gallery of what changed, from a result and the pictures beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_results import EVIL, diff, write_tiles

from yoloqat.pipeline.diff_files import COLOURS
from yoloqat.report.changes import changes_section
from yoloqat.report.page import page
from yoloqat.report.verdict import verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiles(tmp_path)
    return tmp_path


def test_the_section_tells_what_changed(folder):
    section = changes_section(diff()["results"], folder)
    assert section.text.startswith("Set the threshold to 0.19")
    assert [fact.value for fact in section.facts][:4] == ["95", "73", "36", "14"]
    assert [picture.title for picture in section.pictures] == ["a.jpg", "b.jpg"]
    assert (
        section.pictures[0].about == "disagreement 1.50: 1 lost (person 0.90); 1 relabelled (cat to dog 0.40 to 0.60)"
    )
    assert section.pictures[1].about == "disagreement 0.30: 1 rose (person 0.10 to 0.40)"
    assert changes_section({"d": 0.1}, folder) is None


def test_a_page_holds_the_pictures_that_are_there_and_no_other_file(folder):
    text = page(diff(), folder=folder)
    assert text.count('<img src="data:image/webp;base64,') == 4
    assert page(diff()).count("data:image/webp;base64,") == 0
    (folder / "pictures" / "01_a_float.webp").write_bytes(b"no picture")
    assert page(diff(), folder=folder).count("data:image/webp;base64,") == 2
    result = diff()
    result["results"]["pictures"][1]["tiles"][0] = "../../etc/passwd"
    assert page(result, folder=folder).count("data:image/webp;base64,") == 0


def test_the_pictures_of_all_results_share_the_room_of_a_page(folder, monkeypatch):
    size = (folder / "pictures" / "01_a_float.webp").stat().st_size
    assert len(changes_section(diff()["results"], folder, 3 * size).pictures) == 1
    parts = [diff() | {"directory": str(folder)} for _ in range(2)]
    whole = diff() | {"command": "report", "results": {"reports": parts}}
    assert page(whole).count("data:image/webp") == 8
    monkeypatch.setattr("yoloqat.report.page.ROOM", 4 * size)
    assert page(whole).count("data:image/webp") == 4


def test_names_are_escaped(folder):
    result = diff()
    result["results"]["changes_by_image"][0]["details"][0]["class_float"] = EVIL[0]
    assert EVIL[0] not in page(result, folder=folder)


def test_the_verdict():
    told = verdict("diff", diff()["results"], "q.onnx")
    assert told == "Of 95 boxes that the float model has above 0.25, q.onnx loses 36 and adds 14; d = 0.61 [0.5, 0.7]."
    assert verdict("diff", {"d": 0.5}, "q.onnx") == "q.onnx: d = 0.5."


def test_the_legend_has_the_colours_of_the_pictures():
    style = Path("yoloqat/report/templates/style.css").read_text()
    for name, kind in (
        ("red", "lost"),
        ("blue", "gained"),
        ("orange", "moved"),
        ("violet", "relabelled"),
        ("green", "kept"),
    ):
        colour = " ".join(map(str, COLOURS[kind]))
        assert f".swatch.{name} {{ background: rgb({colour}); }}" in style
