"""Pickles are read as data: nothing that they name is imported, nothing that they call runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from yoloqat.detectors.inert import Held, Inert, InertUnpickler, global_names


def read(data: bytes, storage=lambda pid: torch.arange(4.0)):
    return InertUnpickler(io.BytesIO(data), storage).load()


def touch(path: Path) -> None:
    path.touch()


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def attacks(path: Path) -> dict[str, object]:
    text = f"open({str(path)!r}, 'w').close()"
    return {
        "system": Calls(os.system, f"touch {path}"),
        "eval": Calls(eval, text),
        "exec": Calls(exec, text),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "own function": Calls(touch, path),
        "method of a path": Calls(Path.touch, path),
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", list(attacks(Path("x"))))
def test_no_call_runs(tmp_path, name, protocol):
    data = pickle.dumps({"a": [attacks(tmp_path / "made")[name]]}, protocol=protocol)
    found = read(data)["a"][0]
    assert isinstance(found, Inert)
    assert not list(tmp_path.iterdir())
    pickle.loads(data)
    assert name == "getattr" or (tmp_path / "made").exists(), "the attack is none"


def test_a_call_of_what_a_call_returned_does_not_run(tmp_path):
    # getattr(__import__("os"), "system")("touch ..."), as no Python object pickles but a file may say
    command = f"touch {tmp_path / 'made'}".encode()
    data = b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'" + command + b"'\ntR."
    assert isinstance(read(data), Inert)
    assert not list(tmp_path.iterdir())
    pickle.loads(data)
    assert (tmp_path / "made").exists(), "the attack is none"


@pytest.mark.parametrize(
    "data",
    [
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch x'\no.",  # OBJ
        b"\x80\x02cos\nsystem\n(S'touch x'\nt\x81.",  # NEWOBJ
        b"\x80\x04cos\nsystem\n(S'touch x'\nt}\x92.",  # NEWOBJ_EX
    ],
)
def test_old_and_new_ways_to_make_an_object_are_inert(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    assert isinstance(read(data), Inert)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"ctorch._utils\n_rebuild_tensor_v2\n}b.", "for a function"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'_function'\ncos\nsystem\nstb.", "for a function"),
        (b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ}b.", "for a tensor"),
        (b"S'0'\nQ.", "persistent id '0'"),
        (b"(S'storage'\ncos\nsystem\nS'0'\nS'cpu'\nI4\ntQ.", "persistent id"),
    ],
)
def test_what_is_real_takes_no_state(data, reason):
    with pytest.raises(pickle.UnpicklingError, match=reason):
        read(data)


@pytest.mark.parametrize("target", [b"ccollections\nOrderedDict\n", b"cbuiltins\nset\n", b"cmodels.yolo\nModel\n"])
def test_classes_cannot_be_changed(target):
    with pytest.raises((TypeError, AttributeError)):
        read(target + b"(N}S'clear'\ncos\nsystem\nstb.")
    assert OrderedDict.clear is not os.system


def test_plain_data_comes_as_it_is():
    value = {"a": [1, 2.5, "x", None, True, (3,), {4}], "b": OrderedDict(c=b"d"), "e": 1 << 80}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(value, protocol=protocol)
        if protocol < 3:  # bytes are a call of `_codecs.encode` there
            assert isinstance(read(data)["b"]["c"], Inert)
        else:
            assert read(data) == value


class Own(dict):
    """A class with items and state, which pickles by both."""


class OwnList(list):
    """A class with items."""


class OwnSet(set):
    """A class that pickles by a call."""


def test_other_objects_leave_their_name_and_state():
    own = Own(a=1)
    own.note = "kept"
    found = read(pickle.dumps([own, OwnList([1, 2]), OwnSet([1])]))
    assert [type(value).__mro__[1] for value in found] == [Inert] * 3
    assert found[0].kind.endswith(".Own")
    assert found[0].state == {"note": "kept"}
    assert found[0].__class__ is not found[1].__class__


def tensor_pickle(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    pid = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + pid
        + b"I%d\n" % offset
        + numbers(size)
        + numbers(stride)
        + b"\x89NtR."
    )


def test_a_tensor_is_a_view_of_its_storage():
    held = read(tensor_pickle((2, 2), (1, 2)))
    assert isinstance(held, Held)
    assert held.tensor.tolist() == [[0, 2], [1, 3]]


def test_a_tensor_that_would_fill_memory_is_refused():
    with pytest.raises(pickle.UnpicklingError, match="a tensor of 1000000000000 elements in a storage of 4"):
        read(tensor_pickle((1000000, 1000000), (0, 0)))


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [((5,), (1,), 0), ((2,), (1,), 3), ((2,), (-1,), 1), ((1,), (1,), -1)]
)
def test_a_tensor_beyond_its_storage_is_refused(size, stride, offset):
    with pytest.raises((RuntimeError, pickle.UnpicklingError)):
        read(tensor_pickle(size, stride, offset))


def test_global_names_are_those_of_the_pickle():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps([OrderedDict(a="models.yolo"), torch.float32, Path("x")], protocol=protocol)
        names = set(global_names(io.BytesIO(data)))
        assert ("collections", "OrderedDict") in names
        assert any(name == "PosixPath" for _, name in names)
        assert not [module for module, _ in names if module == "models.yolo"]
