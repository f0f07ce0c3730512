"""Errors name parameters of the Python API below the command line, and options in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import yoloqat
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.main import _command_parser
from yoloqat.cli.wording import RENAMED, option_of, worded
from yoloqat.config import EvalConfig
from yoloqat.errors import PARAMETER, ConfigError

PACKAGE = Path(yoloqat.__file__).parent
OPTION = re.compile(r"(?<![\w|-])--[A-Za-z]")
OTHERS = {
    "engines/tensorrt/trtexec.py": "the line of trtexec",
    "deploy/gpu_kit.py": "the lines of yoloqat that the kit runs",
    "engines/reading/files.py": "options of trtexec",
    "engines/reading/report.py": "an option of trtexec",
    "pipeline/build_tensorrt.py": "a shell script that calls trtexec and sed",
}
"""Modules that write lines for other programs."""
FOREIGN = ("trtexec line with --verbose", "ray start --head")
"""Options of other programs in messages."""
PARSERS = {name: _command_parser(entry.load()) for name, entry in COMMANDS.items()}


def literals() -> Iterator[tuple[str, str]]:
    """Yield module and text of every string outside the command line that is no docstring; of f-strings, `{}` for values."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module.startswith("cli/") or module in OTHERS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        inner = {id(part) for node in joined for part in node.values}
        for node in joined:
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield module, "".join(map(str, parts))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare | inner:
                yield module, node.value


TEXTS = list(literals())


def test_below_the_command_line_no_text_names_an_option():
    found = [(module, text) for module, text in TEXTS if OPTION.search(text)]
    assert [entry for entry in found if not any(text in entry[1] for text in FOREIGN)] == []
    assert len(found) == len(FOREIGN), "the list of exceptions names what is there, and no more"
    assert all(OPTION.search((PACKAGE / module).read_text(encoding="utf-8")) for module in OTHERS)


@pytest.mark.parametrize("text", ["set --imgsz to", "--out", "choose --min-, --opt-", "leave `--rect` out"])
def test_an_option_is_found_in_a_text(text):
    assert OPTION.search(text)


def test_every_parameter_that_an_error_names_is_an_option_of_a_command():
    marked = {found[1] for _, text in TEXTS for found in PARAMETER.finditer(text) if "\n" not in text}
    assert {"imgsz", "workers", "SupervisionConfig.stride", "out"} <= marked
    known = {option for parser in PARSERS.values() for option in parser.options}
    lost = {
        name
        for name in marked
        if not any(set(re.split(", | and ", option_of(name, p))) <= known for p in PARSERS.values())
    }
    assert lost == set()


def test_what_is_renamed_is_an_argument_of_a_command():
    dests = {action.dest for parser in PARSERS.values() for action in parser._actions}
    assert {dest for names in RENAMED.values() for dest in names} <= dests


@pytest.mark.parametrize(
    ("command", "hint", "plain", "typed"),
    [
        ("eval", "set `imgsz` to 640 or 672", "set imgsz to 640 or 672", "set --imgsz to 640 or 672"),
        ("sensitivity", "set `workers` lower", "set workers lower", "set --workers lower"),
        ("sensitivity", "leave `ScanConfig.bits` out", "leave ScanConfig.bits out", "leave --bits out"),
        ("sensitivity", "lower `bits`", "lower bits", "lower --base-bits"),
        ("finetune", "with `SupervisionConfig.stride=1`", "with SupervisionConfig.stride=1", "with --supervise 1"),
        (
            "bench",
            "build it with `engine=openvino`",
            "build it with engine=openvino",
            "build it with --engine openvino",
        ),
        ("export", "use `opset=19`", "use opset=19", "use --opset 19"),
        ("calibrate", "10 or less with `count`", "10 or less with count", "10 or less with --calib-images"),
        (
            "build",
            "set `TensorRTOptions.batch`",
            "set TensorRTOptions.batch",
            "set --min-batch, --opt-batch and --max-batch",
        ),
        ("build", "type `trtexec --help`", "type `trtexec --help`", "type `trtexec --help`"),
    ],
)
def test_a_message_has_a_form_for_each_user(command, hint, plain, typed):
    for error in (ConfigError("a", expected="b", hint=hint), ConfigError("a", expected=hint, hint="b")):
        assert plain in str(error)
        assert typed in worded(error, PARSERS[command])


def test_the_offending_value_stands_as_it_is():
    error = ConfigError("'`imgsz`' is no file", expected="a file", hint="check it")
    assert worded(error, PARSERS["eval"]) == str(error) == "'`imgsz`' is no file; expected a file; check it"


def test_the_same_mistake_is_told_to_each_user_in_his_words(cli, tiny_model, tiny_data):
    with pytest.raises(ConfigError, match=r"imgsz is 32 x 64 for .*; leave out rect, or set imgsz to the long side$"):
        EvalConfig(imgsz=(32, 64), rect=True)
    ran = cli("eval", tiny_model, "--data", tiny_data.yaml, "--rect", "--imgsz", 32, 64)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("; leave out --rect, or set --imgsz to the long side\n")


def test_no_module_below_the_command_line_parses_options():
    modules = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli"]
    assert [path for path in modules if "import argparse" in path.read_text(encoding="utf-8")] == []
