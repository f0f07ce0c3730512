"""What README and docs tell to type, to import and to read is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_detector import TinyData

import yoloqat
from yoloqat.cli.main import parsed
from yoloqat.detectors import torch_threads

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "README.md"]
_FENCE = re.compile(r"^( *)(`{3,})([a-z]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^|\n)\n((?: {4}\S[^\n]*\n)+)")
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)\s]*)\)")
_OPTIONS = ("START", "HOW")
"""What stands for options that a table below the line names."""
_PROGRAM = re.compile(r"(?:bash|python|pytest) ((?:scripts|benchmarks|examples|tests)/[\w/.]+)")

_FILE = re.compile(r"`((?:yoloqat|tests|scripts|docs|docker|examples|benchmarks)/[\w/.-]+)`")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of every code block; one that is only indented has no language."""
    text = page.read_text(encoding="utf-8")
    for _, _, language, block in _FENCE.findall(text):
        yield language, textwrap.dedent(block)
    for block in _INDENTED.findall(_FENCE.sub("", text)):
        yield "", textwrap.dedent(block)


def lines(block: str) -> Iterator[list[str]]:
    """Yield the words of every line that is typed, without prompt and comment."""
    for line in block.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:  # text with an apostrophe, no command
            continue
        if words[:2] == ["docker", "run"]:  # the image's entry point is yoloqat
            image = next(index for index, word in enumerate(words) if word.startswith("yoloqat:"))
            words = ["yoloqat", *words[image + 1 :]]
        yield words[2:] if words[:2] == ["python", "-m"] else words


COMMANDS = {
    f"{relative(page)}: {shlex.join(words)}": words[1:]
    for page in PAGES
    for language, block in blocks(page)
    if language in ("", "bash", "console", "powershell")
    for words in ([word for word in line if word not in _OPTIONS] for line in lines(block))
    if words[:1] == ["yoloqat"] and len(words) > 1
}
SNIPPETS = {
    f"{relative(page)}, {number}": block
    for page in PAGES
    for number, block in enumerate(block for language, block in blocks(page) if language == "python")
}


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind ``#``, by the rule of GitHub and of the site."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 30
    assert "README.md: yoloqat demo" in COMMANDS
    assert "docs/commands.md: yoloqat lint anybodys_qdq.onnx" in COMMANDS
    assert "docs/tensorrt.md: yoloqat eval runs/build/model.engine --data coco.yaml" in COMMANDS, "an indented block"
    assert len(SNIPPETS) >= 4


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_command_line_is_one_that_yoloqat_takes(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    command, args = parsed(words)
    assert command.name == words[0] == args.command


def test_the_python_of_the_readme_runs(
    tiny_model: Path, tiny_data: TinyData, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_model, "yolov8n.pt")
    shutil.copytree(tiny_data.yaml.parent, ".", dirs_exist_ok=True)
    Path(tiny_data.yaml.name).rename("coco.yaml")
    snippet = SNIPPETS["README.md, 0"].replace("calibration(64)", "calibration(4)")
    with torch_threads(1):
        exec(compile(snippet, "README.md", "exec"), {})
    assert len([line for line in snippet.splitlines() if line]) <= 10
    shown = capsys.readouterr().out
    assert "entropy" in shown
    assert "share" in shown, "of the noise budget"
    assert "0 errors" in shown or "no finding" in shown, shown
    assert Path("model.onnx").is_file()


@pytest.mark.parametrize("line", ["yoloqat compare yolov8n.pt --dada coco.yaml", "yoloqat eval a.onnx data=coco.yaml"])
def test_a_command_line_with_a_mistake_is_found(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(next(lines(f"$ {line}  # why"))[1:])
    assert "did you mean --data" in capsys.readouterr().err


@pytest.mark.parametrize("snippet", SNIPPETS.values(), ids=SNIPPETS.keys())
def test_a_snippet_compiles_and_what_it_imports_is_there(snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "yoloqat":
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yq":
            assert node.attr in yoloqat.__all__


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_what_a_page_links_to_and_runs_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in _LINK.findall(_FENCE.sub("", text)):
        target, _, anchor = link.partition("#")
        place = page.parent / target if target else page
        assert place.exists(), link
        assert not anchor or anchor in anchors(place), link
    assert [name for name in [*_PROGRAM.findall(text), *_FILE.findall(text)] if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_says_first_what_ran_on_a_gpu() -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(shown) <= 120
    assert any("no engine has been built on a GPU yet" in line for line in shown[:10])


def test_every_page_is_reached_from_the_readme_and_the_site() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert pages == set(re.findall(r"[\w-]+\.md", site))
    linked: set[str] = set()
    found = set(re.findall(r"\(docs/([\w-]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8")))
    while found - linked:  # from the README, or from a page that is
        linked |= found
        found = {name for page in linked for name in re.findall(r"\(([\w-]+\.md)", (ROOT / "docs" / page).read_text())}
    assert pages - {"index.md"} <= linked
