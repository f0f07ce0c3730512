"""The pages in a real browser, at three widths, light and dark: no error, no overflow, every plot drawn."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess

import pytest
from made_results import EVIL, diff, former, joined, noise, with_histograms, write_tiles

from yoloqat.report.page import page

WIDTHS = (390, 1280, 1920)
ATTEMPTS = 3
"""On a busy machine the browser's virtual time runs out before the last page was told of."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGES = {
    "joined": joined(),
    "many": with_histograms(noise(300, names=EVIL)),
    "lint": former("lint"),
    "diff": diff(),
}
FIRST = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
for (const kind of ["error", "warn"]) console[kind] = (...words) => errors.push(`${kind}: ${words.join(" ")}`);
</script>"""
LAST = """<script>
const body = getComputedStyle(document.body);
function seen() {
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = plots.filter((plot) => plot.querySelectorAll("svg path").length > 3);
  const fits = (svg) => svg.getBoundingClientRect().right <= svg.closest(".plot").getBoundingClientRect().right + 1;
  const isItems = (table) => /^all \\d+ items/.test(table.closest("figure").innerText);
  const items = [...document.querySelectorAll("table")].find(isItems);
  const shares = () => [...items.tBodies[0].rows].map((row) => parseFloat(row.cells[3].innerText));
  const orders = [];
  for (let click = 0; items && click < 2; click++) {
    items.querySelectorAll("thead button")[3].click();
    orders.push(shares());
  }
  const pointed = [...document.querySelectorAll(".plot")].find((plot) => /each item/.test(plot.ariaLabel));
  const bar = pointed?.querySelector(".mark-rect path"), box = bar?.getBoundingClientRect();
  const place = box && { bubbles: true, clientX: box.left + 2, clientY: box.top + 2 };
  for (const kind of ["pointerover", "pointermove"]) bar?.dispatchEvent(new PointerEvent(kind, place));
  const tip = document.getElementById("vg-tooltip-element");
  const heads = items ? [...items.querySelectorAll("button.more")] : [];
  const details = () => items.querySelectorAll("tr.detail").length;
  const opened = heads.map((head) => [head.click(), details(), items.querySelectorAll(".quantizer").length].slice(1));
  if (heads.length) heads[0].click();
  const left = items && details();
  if (heads.length) items.querySelector("thead button").click();
  const hovered = { tip: tip?.innerText, bars: tip?.querySelectorAll("rect").length, left, opened, after: items && details() };
  return {
    name: NAME, hovered, errors, orders, plots: plots.length, labels: plots.map((plot) => plot.ariaLabel), drawn: drawn.length,
    pictures: [...document.images].filter((image) => image.naturalWidth === 480 && image.width > 200).length,
    cut: [...document.querySelectorAll(".plot svg")].filter((svg) => !fits(svg)).length,
    width: document.scrollingElement.scrollWidth, window: innerWidth, ground: body.backgroundColor, ink: body.color,
    label: document.querySelector(".plot svg text")?.getAttribute("fill"),
  };
}
function wait() {
  if (document.documentElement.dataset.drawn === "all") parent.postMessage(seen(), "*");
  else setTimeout(wait, 50);
}
wait();
</script>"""
FRAMES = """<!doctype html><body>%s<pre id="found"></pre><script>
const found = [];
addEventListener("message", (event) => {
  found.push(event.data);
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(PROGRAMS)} is on PATH; CONTRIBUTING.md names the package")
    return program


@pytest.fixture(scope="module", params=["light", "dark"])
def looked(request, browser, tmp_path_factory):
    """What a browser finds on every page at every width, by name and width; and what it logs."""
    folder = tmp_path_factory.mktemp(request.param)
    write_tiles(folder)
    frames = []
    for name, result in PAGES.items():
        text = page(result, folder=folder).replace("<head>", "<head>" + FIRST, 1)
        before, end, after = text.rpartition("</body>")  # the library holds the word too
        text = before + LAST.replace("NAME", json.dumps(name)) + end + after
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
        frames += [
            f'<iframe src="{name}.html" width="{width}" height="900" frameborder="0"></iframe>' for width in WIDTHS
        ]
    (folder / "all.html").write_text(FRAMES % "".join(frames), encoding="utf-8")
    root = getattr(os, "geteuid", lambda: 1)() == 0  # for whom the sandbox cannot be made
    line = [
        *(browser, "--headless=new", "--disable-gpu", "--window-size=2000,1000", *(["--no-sandbox"] if root else [])),
        *(
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
        ),
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(request.param)}",
        *("--enable-logging=stderr", "--virtual-time-budget=60000", "--dump-dom", (folder / "all.html").as_uri()),
    ]
    for _ in range(ATTEMPTS):
        ran = subprocess.run(line, capture_output=True, text=True, timeout=120)
        found = re.search(r'<pre id="found">(.*?)</pre>', ran.stdout, re.DOTALL)
        assert found, ran.stderr[-2000:]
        seen = {(entry["name"], entry["window"]): entry for entry in json.loads(html.unescape(found[1]))}
        if len(seen) == len(frames):
            break
    return request.param, seen, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_every_page_was_opened_at_every_width_without_an_error(looked):
    _, seen, console = looked
    assert sorted(seen) == sorted((name, width) for name in PAGES for width in WIDTHS)
    assert {key: entry["errors"] for key, entry in seen.items() if entry["errors"]} == {}
    assert console == []


def test_nothing_is_wider_than_the_window(looked):
    _, seen, _ = looked
    assert {key: entry["width"] for key, entry in seen.items() if entry["width"] > entry["window"]} == {}
    assert {key: entry["cut"] for key, entry in seen.items() if entry["cut"]} == {}


def test_every_picture_is_shown(looked):
    _, seen, _ = looked
    assert [seen["diff", width]["pictures"] for width in WIDTHS] == [4] * 3


def test_every_plot_is_drawn(looked):
    _, seen, _ = looked
    plots = {name: page(result).count('<div class="plot"') for name, result in PAGES.items()}
    assert {key: entry["drawn"] for key, entry in seen.items()} == {key: plots[key[0]] for key in seen}
    assert all(re.match(r".+: .*\d", label) for entry in seen.values() for label in entry["labels"]), "not Vega's own"
    assert (plots["joined"] > 30, plots["many"], plots["lint"]) == (True, 3, 0)


def test_the_page_and_its_plots_are_light_or_dark_as_the_reader_likes(looked):
    scheme, seen, _ = looked
    for entry in seen.values():
        ground, ink = (sum(map(int, re.findall(r"\d+", entry[name])[:3])) for name in ("ground", "ink"))
        assert (ground < 150 < 500 < ink) if scheme == "dark" else (ink < 150 < 500 < ground)
        if entry.get("label"):
            label = sum(int(entry["label"][at : at + 2], 16) for at in (1, 3, 5))
            assert (label > 300) is (scheme == "dark")


def test_a_click_sorts_a_table_by_a_column(looked):
    _, seen, _ = looked
    falling, rising = seen["many", 1280]["orders"]
    assert len(falling) == 300
    assert falling == sorted(falling, reverse=True)
    assert rising == sorted(rising)
    assert falling != rising


def test_a_bar_that_is_pointed_at_and_a_name_that_is_clicked_show_histograms_with_clip_lines(looked):
    _, seen, _ = looked
    for width in WIDTHS:
        found = seen["many", width]["hovered"]
        assert EVIL[0] in found["tip"], "its name, as text"
        assert "range ends at 1.5" in found["tip"], "of the quantizer that it shares"
        assert found["bars"] == 2 * 4, "two histograms of four bins that are not empty"
        assert found["opened"] == [[1, 2], [2, 4], [3, 6], [4, 8]]
        assert (found["left"], found["after"]) == (3, 0), "a second click closes one, sorting all"
    assert seen["lint", 390]["hovered"]["opened"] == []
