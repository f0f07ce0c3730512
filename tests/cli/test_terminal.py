from __future__ import annotations

import io
import warnings

import pytest
from rich.console import Console

from yoloqat.cli.terminal import shown_warnings
from yoloqat.errors import warn


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
