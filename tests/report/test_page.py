from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from made_results import COMMANDS, EVIL, budget, demo, fidelity, former, joined, noise, search, unlabelled

from yoloqat.errors import OutputError
from yoloqat.report.page import page, report_of, write_report

VENDOR = resources.files("yoloqat.report").joinpath("vendor")
LARGEST = 3_000_000
MADE = {
    **{name: former(name) for name in COMMANDS},
    "noise": noise(63),
    "one item": noise(1),
    "many items": noise(400, names=EVIL),
    "search": search(),
    "demo": demo(),
    "fidelity": fidelity(),
    "budget": budget(),
    "unlabelled": unlabelled(),
    "joined": joined(),
}


class Read(HTMLParser):
    """The tags of a page, and the text of its scripts and elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self.specs = [], [], [], []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._script = tag in ("script", "style")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._script = False

    def handle_data(self, data):
        if not self._script:
            self.text.append(data)
        elif self.tags[-1][0] == "script":
            self.scripts[-1] += data
            if self.tags[-1][1] == {"type": "application/json"}:
                self.specs.append(data)


@pytest.mark.parametrize("name", MADE)
def test_a_page_is_whole_in_itself_and_small(name):
    text = page(MADE[name])
    read = Read(text)
    assert len(text.encode()) < LARGEST
    assert "as documented" not in text
    loading = [
        tag for tag, attributes in read.tags if "src" in attributes or tag in ("img", "iframe", "object", "base")
    ]
    assert loading == []
    links = [attributes["href"] for tag, attributes in read.tags if "href" in attributes]
    assert all(link == "data:," or link.startswith("#result-") for link in links)
    assert "@import" not in text
    policy = next(attributes["content"] for _, attributes in read.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none';")
    plots = [attributes for tag, attributes in read.tags if tag == "div" and attributes.get("class") == "plot"]
    assert len(plots) == len(read.specs)
    assert ("vegaEmbed=" in text) is bool(plots)  # a page without a plot does without the library
    assert [script for script in read.scripts if "sourceMappingURL" in script] == []


@pytest.mark.parametrize("name", MADE)
def test_a_page_holds_its_verdict_its_plots_as_they_were_made_and_where_it_comes_from(name):
    result = MADE[name]
    parts = result["results"].get("reports", [result])
    reports = [report_of(part, place="") for part in parts]
    read = Read(page(result))
    text = "".join(read.text)
    specs = [chart.spec for report in reports for section in report.sections for chart in section.charts]
    assert [json.loads(spec) for spec in read.specs][-len(specs) or len(read.specs) :] == json.loads(json.dumps(specs))
    for report in reports:
        assert report.verdict in text
        for section in report.sections:
            assert section.title in text
        for table in (table for section in report.sections for table in (*section.tables, *section.folded)):
            assert table.rows[0][0] in text
    line = parts[0]["provenance"]["command_line"]
    assert line in text
    assert parts[0]["provenance"]["processor"] in text


def test_names_of_strangers_are_text():
    result = noise(5, names=EVIL)
    result["results"]["per_class"] = {name: {"map50_95": 0.5} for name in EVIL}
    result["results"]["warnings"] = [f"unknown {EVIL[0]}"]
    result["provenance"]["inputs"]["model"]["path"] = f"/data/{EVIL[2]}.pt"
    text = page(result)
    read, plain = Read(text), Read(page(noise(5) | {"results": result["results"] | {"items": [], "per_class": {}}}))
    assert [script for script in read.scripts if script.startswith("alert")] == []
    assert "b" not in [tag for tag, _ in read.tags]
    for name in EVIL:
        assert name in "".join(read.text)
    assert "<script>alert" not in text
    names = [row["name"] for row in json.loads(read.specs[0])["data"]["values"]]
    assert names[:3] == list(EVIL)
    assert len(read.scripts) == len(plain.scripts) + len(read.specs) - len(plain.specs)


@pytest.mark.parametrize(
    "change",
    [
        {"methods": 5},
        {"methods": [{"method": "max"}], "best": "mse", "tied": None},
        {"items": ["a"]},
        {"items": [{"name": "a", "latency_ms": 3, "effect": "x", "share": "y", "quantizers": 7}]},
        {"layers": [{"name": None, "macs": "x"}], "curve": [{"float_layers": "x"}], "frontier": [{}]},
        {
            "layers": [7],
            "per_class": [1],
            "epochs": [{}],
            "findings": [{}],
            "lint": 3,
            "node_max_steps": 1,
            "nodes": [{}],
        },
        {
            "map_float": "x",
            "drop_ci95": "ab",
            "warnings": 3,
            "undefined": 5,
            "summary": 7,
            "compare": {},
            "careless": 1,
        },
    ],
)
@pytest.mark.parametrize("command", ["compare", "sensitivity", "anything"])
def test_a_result_that_is_not_as_documented_keeps_its_page(command, change):
    found = former("compare") | {"command": command}
    found["results"] = found["results"] | change
    read = Read(page(found))
    assert "Settings and provenance" in "".join(read.text)


def test_a_part_that_cannot_be_shown_says_why():
    found = former("compare")
    found["results"]["methods"] = [{"map50_95": 0.5}]
    report = report_of(found, place="")
    assert report.verdict == "The results of `yoloqat compare` are not as documented (KeyError: 'method')."
    text = "This part cannot be shown: its keys are not as documented (KeyError: 'method')."
    assert [section.text for section in report.sections if section.title == "Calibration methods"] == [text]


def test_a_result_without_anything_known_is_a_page_too():
    bare = {"command": "anything", "results": {}}
    report = report_of(bare, place="")
    assert (report.title, report.sections, report.about) == ("anything", (), ())
    assert "`yoloqat anything` is done." in page(bare)


def test_several_results_stand_side_by_side():
    text = "".join(Read(page(joined())).text)
    assert text.index("Summary") < text.index("runs/bench") < text.index("INT8 map")
    assert "runs/noise" in text


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "report.html"
    write_report(former("eval"), path)
    assert path.read_text(encoding="utf-8") == page(former("eval"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "file" / "report.html"))):
        write_report(former("eval"), tmp_path / "file" / "report.html")


def test_the_plotting_library_is_what_its_packages_hold_with_its_licenses():
    sources = json.loads(VENDOR.joinpath("sources.json").read_text(encoding="utf-8"))
    scripts = {path.name for path in VENDOR.iterdir() if path.name.endswith(".js")}
    assert scripts == sources.keys()
    licenses = VENDOR.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    for name, source in sources.items():
        content = VENDOR.joinpath(name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == source["sha256"]
        assert b"</script" not in content.lower()
        assert b"<!--" not in content
        assert f"{source['package']} {source['version']}" in licenses
    assert "Redistribution and use in source and binary forms" in "".join(Read(page(former("eval"))).text)
