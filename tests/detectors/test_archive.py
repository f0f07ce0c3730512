"""Files of `torch.save`, against torch's own reader."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from small_anchor import DESCRIPTIONS, make_model, save_original

from yoloqat.detectors.archive import globals_of, is_torch_file, load_archive
from yoloqat.detectors.inert import Held

TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def plain(value):
    if isinstance(value, Held):
        return value.tensor
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def saved(path, value, *, legacy=False):
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.fixture(params=[False, True], ids=["zip", "legacy"])
def legacy(request):
    return request.param


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_tensors_are_those_that_torch_reads(tmp_path, dtype, legacy):
    base = torch.arange(24).reshape(2, 3, 4).to(dtype)
    value = {"whole": base, "view": base[1, :, 1:3], "turned": base.mT, "empty": base[:0], "one": base[0, 0, 1]}
    path = saved(tmp_path / "a.pt", value, legacy=legacy)
    found, expected = plain(load_archive(path)), torch.load(path, weights_only=True)
    assert is_torch_file(path)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert (found[name].dtype, found[name].stride()) == (tensor.dtype, tensor.stride())
    assert found["view"].untyped_storage().data_ptr() == found["whole"].untyped_storage().data_ptr()


def test_parameters_and_containers_are_read(tmp_path, legacy):
    value = OrderedDict(a=torch.nn.Parameter(torch.ones(2)), b={"c": [1, 2.5, "x", None, True]})
    found = load_archive(saved(tmp_path / "a.pt", value, legacy=legacy))
    assert torch.equal(found["a"].tensor, torch.ones(2))
    assert found["b"] == {"c": [1, 2.5, "x", None, True]}


def test_globals_are_told_without_reading_tensors(tmp_path, legacy):
    yaml = DESCRIPTIONS["yolov5"]
    path = save_original(tmp_path / "a.pt", make_model(yaml), yaml, legacy=legacy)
    names = globals_of(path)
    assert {"models.yolo.Model", "models.common.C3", "torch.nn.modules.conv.Conv2d"} <= names


def rewritten(path, target, *, drop=(), **replaced):
    """Copy a zip archive with some entries replaced or left out, by the last part of their names."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as result:
        for name in source.namelist():
            last = name.partition("/")[2]
            if last not in drop:
                result.writestr(name, replaced.get(last.replace(".", "_"), source.read(name)))
        for name, data in replaced.items():
            if name.startswith("more"):
                result.writestr("more/data.pkl", data)
    return target


def test_a_storage_that_is_too_short_is_refused(tmp_path):
    path = saved(tmp_path / "a.pt", torch.ones(4))
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"\0" * 8 if name.endswith("data/0") else source.read(name))
    with pytest.raises(pickle.UnpicklingError, match="a storage of 4 elements in 8 bytes"):
        load_archive(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"byteorder": b"big"}, "byte order b'big'"),
        ({"more": b"N."}, "2 entries named data.pkl"),
        ({"drop": ("data.pkl",)}, "0 entries named data.pkl"),
        ({"data_pkl": b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI-4\ntQ."}, "a storage of -4 elements"),
    ],
)
def test_an_odd_archive_is_refused(tmp_path, changes, reason):
    path = saved(tmp_path / "a.pt", torch.ones(4))
    with pytest.raises(pickle.UnpicklingError, match=reason):
        load_archive(rewritten(path, tmp_path / "b.pt", **changes))


def test_a_compressed_entry_is_refused(tmp_path):
    path = saved(tmp_path / "a.pt", torch.zeros(10**6))
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    for read in (load_archive, globals_of):
        with pytest.raises(pickle.UnpicklingError, match="the compressed entry 'a/"):
            read(tmp_path / "b.pt")


def legacy_file(path, main: bytes, keys: bytes, storages: bytes):
    head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    path.write_bytes(head + main + keys + storages)
    return path


def legacy_storage(count: int, view: bytes = b"N") -> bytes:
    return b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI%d\n" % count + view + b"tQ."


@pytest.mark.parametrize(
    ("main", "keys", "storages", "reason"),
    [
        (legacy_storage(10**6), b"].", b"", "a storage of 1000000 elements in a file of"),
        (legacy_storage(2, b"I1\n"), b"].", b"\0" * 16, "a storage of 2 elements in a file of"),
        (legacy_storage(2), b"(lS'0'\na.", b"\3" + b"\0" * 19, "a storage of 3 elements instead of 2"),
        (legacy_storage(2), b"(lS'0'\na.", b"\2" + b"\0" * 9, "a storage of 2 elements in 2 bytes"),
        (b"].", legacy_storage(2), b"", "a tensor where none belongs"),
    ],
)
def test_an_odd_file_of_the_old_format_is_refused(tmp_path, main, keys, storages, reason):
    with pytest.raises(pickle.UnpicklingError, match=reason):
        load_archive(legacy_file(tmp_path / "a.pt", main, keys, storages))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02N."])
def test_other_files_are_none_of_torch(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert not is_torch_file(tmp_path / "a.pt")
