from __future__ import annotations

import io
import warnings

import pytest
from rich.console import Console, Group

from yoloqat.cli.terminal import lines_progress, progress_bars, shown, shown_warnings
from yoloqat.errors import warn
from yoloqat.progress import silent, tell
from yoloqat.results import Table


def test_each_warning_of_ours_is_one_line_and_others_are_left_alone() -> None:
    console = Console(file=io.StringIO(), width=20)

    def talk() -> list[str]:
        with shown_warnings(console, "yoloqat eval") as found:
            for _ in range(2):
                warn("class 0 is ':cat:' and\n[bold]'cat'[/bold], in a line longer than the terminal")
            warnings.warn("another", stacklevel=1)
        return found

    with pytest.warns(UserWarning, match=r"^another$") as others:
        found = talk()
    text = "class 0 is ':cat:' and [bold]'cat'[/bold], in a line longer than the terminal"
    assert found == [text]
    assert console.file.getvalue() == f"yoloqat eval: warning: {text}\n"  # type: ignore[attr-defined]
    assert len(others) == 1


def test_the_usual_way_of_warnings_comes_back() -> None:
    before = warnings.showwarning
    with pytest.raises(KeyboardInterrupt), shown_warnings(Console(file=io.StringIO()), "yoloqat eval"):
        raise KeyboardInterrupt
    assert warnings.showwarning is before


def test_a_pipe_gets_a_line_every_half_minute_and_at_the_end() -> None:
    now = [0.0]
    console = Console(file=io.StringIO(), width=80)
    progress = lines_progress(console, lambda: now[0])
    for done in range(1, 11):
        now[0] += 10
        progress("model [x]: evaluate", done, 10)
    progress("model [x]: evaluate", 10, 10)
    told = console.file.getvalue().splitlines()
    assert told == [
        "model [x]: evaluate 4/10, about 45 s left",
        "model [x]: evaluate 7/10, about 26 s left",
        "model [x]: evaluate 10/10",
    ]


def test_a_bar_stays_on_its_line_with_its_note_below() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with progress_bars(console) as progress:
        progress("a scan of a model with a name that is much longer than a line", 1, 100)
        progress.note("a scan", ", ".join(f"model.{index}.cv1.conv +0.0123" for index in range(9)))
        lines = console.render_lines(Group(*progress._bars.get_renderables()), pad=False)
    text = ["".join(segment.text for segment in line) for line in lines]
    assert len(text) == 2
    assert "1/100" in text[0]
    assert text[1].startswith("  model.0.cv1.conv +0.0123")
    assert all(len(line) <= 80 for line in text)


@pytest.mark.parametrize("width", [80, 10])
def test_what_would_command_the_terminal_is_shown(width: int) -> None:
    screen = Console(file=io.StringIO(), width=width)
    screen.print(shown(Table("lint", ("node", "n"), (("a\x1b]0;x\x07[red]\x9bb", "1"),)), width))
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    shown_text = text.replace("\n", "")
    assert "a\\x1b]0;x\\x07[red]\\x9bb" in shown_text
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_that_is_told_stays(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    with progress_bars(console) as progress:
        progress("calibrate", 1, 2)
        tell(progress, "calibration method: mse (d 0.083)")
        progress("calibrate", 2, 2)
    assert "calibration method: mse (d 0.083)" in console.file.getvalue()
    tell(silent, "nothing")
