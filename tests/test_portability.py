"""The package can be imported, and the tests collected, on systems that are not POSIX."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
NAMES = {
    "os": {"O_DIRECTORY", "O_NOFOLLOW", "fork", "getuid", "geteuid", "getpgid", "killpg", "mkfifo", "register_at_fork"},
    "signal": {"SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "alarm", "pthread_kill", "setitimer"},
}
"""What Windows does not have."""


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported: no body of a function, and nothing that a `try` guards."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try | ast.Lambda):
            continue
        yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*child.decorator_list, child.args):
                yield from at_import(part)
        else:
            yield from at_import(child)


def missing_on_windows(source: str) -> list[str]:
    found = []
    for node in at_import(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in MODULES]
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found.append(str(node.module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [node.attr] if node.attr in NAMES.get(node.value.id, ()) else []
    return found


@pytest.mark.parametrize("folder", ["yoloqat", "tests", "scripts", "examples"])
def test_nothing_that_posix_alone_has_is_used_at_import(folder: str) -> None:
    found = {path: missing_on_windows(path.read_text(encoding="utf-8")) for path in (ROOT / folder).rglob("*.py")}
    assert found
    assert {str(path): names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import fcntl", ["fcntl"]),
        ("class A:\n    from pwd import getpwnam", ["pwd"]),
        ("import signal\nENDING = [signal.SIGHUP]", ["SIGHUP"]),
        ("import os\n@mark(os.mkfifo)\ndef f(): ...", ["mkfifo"]),
        ("try:\n    import fcntl\nexcept ImportError:\n    pass", []),
        ("import os\ndef f():\n    os.fork()", []),
    ],
)
def test_what_is_missing_is_found(source: str, names: list[str]) -> None:
    assert missing_on_windows(source) == names
