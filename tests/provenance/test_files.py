"""Files and directories appear whole or not at all."""

from __future__ import annotations

import errno
import importlib.util
import json
import math
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from yoloqat.errors import OutputError
from yoloqat.provenance import atomic_directory, atomic_path, files, finite, scratch_directory, write_json, write_text


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_half_way(path, failure):
    path.write_text("half")
    raise failure


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_under_its_name_at_the_end(tmp_path):
    target = tmp_path / "a" / "b" / "model.onnx"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert temporary.name == "model.onnx"
        assert temporary.parent.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["model.onnx"]


def test_the_old_file_stays_until_the_end(tmp_path):
    target = tmp_path / "f.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_inside_leaves_the_old_file_alone(tmp_path, failure):
    target = tmp_path / "f.txt"
    target.write_text("old")
    with pytest.raises(failure), atomic_path(target) as temporary:
        fail_half_way(temporary, failure)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["f.txt"]


@pytest.mark.parametrize("moment", ["write", "rename", "make"])
def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch, moment):
    target = tmp_path / "f.txt"
    target.write_text("old")
    if moment == "rename":
        monkeypatch.setattr(files.os, "replace", no_space)
    if moment == "make":
        monkeypatch.setattr(files.tempfile, "mkdtemp", no_space)
    with pytest.raises(OutputError) as caught, atomic_path(target) as temporary:
        (no_space if moment == "write" else temporary.write_text)("half")
    assert f"cannot write '{target}' (No space left on device)" in str(caught.value)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["f.txt"]


def test_an_error_without_a_text_is_named_by_its_kind(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write '.*f.txt' \(OSError\)"), atomic_path(tmp_path / "f.txt"):
        raise OSError


def test_a_writer_that_removes_its_file_is_told(tmp_path):
    with pytest.raises(OutputError, match="cannot write"), atomic_path(tmp_path / "f.txt") as temporary:
        temporary.unlink()
    assert names(tmp_path) == []


@pytest.mark.parametrize("writer", [atomic_path, atomic_directory])
def test_a_directory_that_cannot_be_written_is_told(tmp_path, writer, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*file/out.json'"), writer(tmp_path / "file" / "out.json"):
        pass
    denied = PermissionError(errno.EACCES, "Permission denied")

    def deny(*_, **__):
        raise denied

    monkeypatch.setattr(files.tempfile, "mkdtemp", deny)
    with (
        pytest.raises(OutputError, match=r"cannot write '.*out.json' \(Permission denied\)"),
        writer(tmp_path / "out.json"),
    ):
        pass


def test_a_file_cannot_take_the_place_of_a_directory(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match=r"cannot write '.*out'"), atomic_path(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


@pytest.fixture(params=[0o022, 0o077, 0o002], ids="umask {:03o}".format)
def umask(request) -> Iterator[int]:
    former = os.umask(request.param)
    yield request.param
    assert os.umask(former) == request.param, "the umask is left as it was"


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_result_is_as_readable_as_any_new_file(tmp_path, umask):
    write_text(tmp_path / "f.txt", "x")
    with atomic_directory(tmp_path / "d") as folder:
        (folder / "g.txt").write_text("x")
    with atomic_path(tmp_path / "private.bin") as temporary:  # as safetensors writes
        other = temporary.with_suffix(".other")
        other.touch(mode=0o600)
        os.replace(other, temporary)
    assert [mode(tmp_path / name) for name in ("f.txt", "private.bin", "d/g.txt")] == [0o666 & ~umask] * 3
    assert mode(tmp_path / "d") == 0o777 & ~umask


def killed_while_writing(target) -> None:
    """Let a process be killed that has written half of a file and of a directory."""
    code = """if True:
        import sys, time
        from pathlib import Path
        from yoloqat.provenance import atomic_directory, atomic_path
        target = Path(sys.argv[1])
        with atomic_directory(target.parent / "model") as folder, atomic_path(target) as file:
            (folder / "half.bin").write_bytes(bytes(9))
            (file.parent / ".tmpOther").write_bytes(bytes(9))
            print("half", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(tmp_path):
    target = tmp_path / "best.safetensors"
    killed_while_writing(target)
    assert [name.startswith(".yoloqat-tmp-") for name in names(tmp_path)] == [True, True]
    with atomic_path(target) as temporary:
        assert names(tmp_path) == [temporary.parent.name], "and nothing else is there meanwhile"
    assert names(tmp_path) == ["best.safetensors"]


def test_what_a_living_process_or_the_user_has_there_stays(tmp_path):
    users = [".yoloqat-tmp-mine", ".yoloqat-tmp-12345678", ".best-abcdefgh.safetensors"]
    for name in users:
        (tmp_path / name).write_text("mine")
    with scratch_directory(tmp_path) as living:
        (living / "half.bin").write_bytes(bytes(9))
        write_text(tmp_path / "f.txt", "x")
        assert names(living) == ["half.bin"]
        with scratch_directory(tmp_path) as second:
            assert living != second
            assert living.is_dir()
    assert names(tmp_path) == sorted([*users, "f.txt"])


def test_a_scratch_directory_that_another_removes_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    made, mkdtemp = [], files.tempfile.mkdtemp

    def removed_once(**settings):
        made.append(mkdtemp(**settings))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(files.tempfile, "mkdtemp", removed_once)
    with scratch_directory(tmp_path) as folder:
        assert str(folder) == made[1]


def test_a_file_system_without_locks_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.fcntl, "flock", no_space)
    with scratch_directory(tmp_path) as living:
        write_text(tmp_path / "f.txt", "x")
        assert living.is_dir()
    assert names(tmp_path) == ["f.txt"]


@pytest.fixture
def files_of_windows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as Windows loads it: no fcntl, and no flags to open directories with."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for name in ("O_DIRECTORY", "O_NOFOLLOW"):
        monkeypatch.delattr(os, name)
    spec = importlib.util.spec_from_file_location("files_of_windows", files.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_the_locks_of_posix_files_and_directories_still_appear_whole(tmp_path, files_of_windows):
    left = tmp_path / ".yoloqat-tmp-12345678"
    left.mkdir()
    with files_of_windows.scratch_directory(tmp_path) as living:
        files_of_windows.write_json(tmp_path / "f.json", {"a": 1})
        with files_of_windows.atomic_directory(tmp_path / "model") as folder:
            (folder / "f.txt").write_text("x")
            assert not (tmp_path / "model").exists()
        assert names(tmp_path) == sorted([".yoloqat-tmp-12345678", living.name, "f.json", "model"])
    assert names(tmp_path) == [left.name, "f.json", "model"], "what may be another's stays"
    assert not hasattr(files_of_windows, "fcntl")


def filled(folder, text: str):
    folder.mkdir()
    (folder / "f.txt").write_text(text)
    return folder


def test_a_directory_is_replaced_at_the_end_only(tmp_path):
    target = filled(tmp_path / "model", "old")
    (target / "stale.bin").write_text("stale")
    with atomic_directory(target) as temporary:
        (temporary / "f.txt").write_text("new")
        assert (target / "f.txt").read_text() == "old"
    assert (target / "f.txt").read_text() == "new"
    assert names(target) == ["f.txt"]
    assert names(tmp_path) == ["model"]


def test_a_new_directory_has_its_parents_made(tmp_path):
    with atomic_directory(tmp_path / "a" / "b") as temporary:
        (temporary / "f.txt").write_text("new")
    assert names(tmp_path / "a") == ["b"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_inside_leaves_the_old_directory_alone(tmp_path, failure):
    target = filled(tmp_path / "model", "old")
    with pytest.raises(failure), atomic_directory(target) as temporary:
        fail_half_way(temporary / "f.txt", failure)
    assert (target / "f.txt").read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_directory_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch, failing_call):
    target = filled(tmp_path / "model", "old")
    calls, replace = [], os.replace

    def fail_once(source, destination):
        calls.append(source)
        if len(calls) == failing_call:
            no_space()
        replace(source, destination)

    monkeypatch.setattr(files.os, "replace", fail_once)
    with pytest.raises(OutputError, match="No space left"), atomic_directory(target) as temporary:
        (temporary / "f.txt").write_text("new")
    assert (target / "f.txt").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_directory_cannot_take_the_place_of_a_file(tmp_path):
    (tmp_path / "model").write_text("old")
    with pytest.raises(OutputError, match=r"cannot write '.*model'"), atomic_directory(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_json_keeps_every_digit(tmp_path):
    value = {"map": 0.1 + 0.2, "items": [1e-300, 3], "text": "ü"}
    write_json(tmp_path / "r.json", value)
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(tmp_path, value):
    write_json(tmp_path / "r.json", {"old": True})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "r.json", {"map": value})
    assert json.loads((tmp_path / "r.json").read_text()) == {"old": True}
    assert names(tmp_path) == ["r.json"]


def test_numbers_that_json_does_not_have_become_null_and_are_named():
    value = {"methods": [{"drop": math.nan, "map": 0.5}, {"ci": (0.1, math.inf)}], 3: -math.inf, "name": "max"}
    found, lost = finite(value)
    assert found == {"methods": [{"drop": None, "map": 0.5}, {"ci": [0.1, None]}], 3: None, "name": "max"}
    assert lost == {"methods[0].drop": "nan", "methods[1].ci[1]": "inf", "3": "-inf"}
    assert math.isnan(value["methods"][0]["drop"])
    assert finite({"a": [1, True, None, "nan"]}) == ({"a": [1, True, None, "nan"]}, {})
