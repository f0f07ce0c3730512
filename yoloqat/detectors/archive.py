"""Files of `torch.save` as trees of plain data, tensors and stand-ins: the zip format, and the one before torch 1.6.

torch's own reader is not used: it takes the sizes of storages from the pickle without checking them against the file,
runs TorchScript archives, and unpacks tar files.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from yoloqat.detectors.inert import InertUnpickler, global_names

_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""First bytes of a file in the format before torch 1.6; four more pickles and the storages follow."""

Storage = Callable[[tuple[Any, ...]], torch.Tensor]


def _refuse(_pid: tuple[Any, ...]) -> torch.Tensor:
    raise pickle.UnpicklingError("a tensor where none belongs")


def _main_pickle(archive: zipfile.ZipFile) -> str:
    """Return the name of the one `data.pkl` of a zip archive."""
    names = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(names) != 1:
        raise pickle.UnpicklingError(f"{len(names)} entries named data.pkl")
    return names[0]


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return an entry. torch stores entries as they are; a compressed one could unpack to any size."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"the compressed entry {name!r:.60}")
    return archive.read(name)


def _elements(pid: tuple[Any, ...]) -> int:
    count = pid[4]
    if not isinstance(count, int) or count < 0:
        raise pickle.UnpicklingError(f"a storage of {count!r:.20} elements")
    return count


def _view(data: bytes, dtype: torch.dtype, count: int) -> torch.Tensor:
    """Return bytes as a tensor of its own memory; torch's files are little-endian unless they say otherwise."""
    if len(data) < count * dtype.itemsize:
        raise pickle.UnpicklingError(f"a storage of {count} elements in {len(data)} bytes")
    return torch.frombuffer(bytearray(data), dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _zip_storage(archive: zipfile.ZipFile, folder: str) -> Storage:
    loaded: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def storage(pid: tuple[Any, ...]) -> torch.Tensor:
        key = (str(pid[2]), pid[1])
        if key not in loaded:
            loaded[key] = _view(_read(archive, f"{folder}/data/{key[0]}"), key[1], _elements(pid))
        return loaded[key]

    return storage


def _load_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        name = _main_pickle(archive)
        folder = name.partition("/")[0]
        order = _read(archive, f"{folder}/byteorder") if f"{folder}/byteorder" in archive.namelist() else b"little"
        if order != b"little":
            raise pickle.UnpicklingError(f"byte order {order!r:.20}")
        return InertUnpickler(io.BytesIO(_read(archive, name)), _zip_storage(archive, folder)).load()


def _load_legacy(file: BinaryIO, size: int) -> Any:
    """Read the format in which the storages follow the pickle that refers to them."""
    storages: dict[str, torch.Tensor] = {}
    room = size

    def storage(pid: tuple[Any, ...]) -> torch.Tensor:
        nonlocal room
        key, dtype, count = str(pid[2]), pid[1], _elements(pid)
        if key not in storages:
            room -= count * dtype.itemsize
            if room < 0 or (len(pid) > 5 and pid[5] is not None):
                raise pickle.UnpicklingError(f"a storage of {count} elements in a file of {size} bytes")
            storages[key] = torch.zeros(count, dtype=dtype)
        return storages[key]

    for _ in range(3):  # magic number, protocol version, sizes of C's integers
        InertUnpickler(file, _refuse).load()
    content = InertUnpickler(file, storage).load()
    for key in InertUnpickler(file, _refuse).load():
        target = storages[key]
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count != target.numel():
            raise pickle.UnpicklingError(f"a storage of {count} elements instead of {target.numel()}")
        target.copy_(_view(file.read(count * target.dtype.itemsize), target.dtype, count))
    return content


def is_torch_file(path: Path) -> bool:
    """Return whether a file may be one that `torch.save` wrote."""
    if zipfile.is_zipfile(path):
        return True
    with path.open("rb") as file:
        return file.read(len(_LEGACY)) == _LEGACY


def globals_of(path: Path) -> set[str]:
    """Return the qualified names of the classes and functions that a file of `torch.save` refers to; none is imported.

    Args:
        path: For which :func:`is_torch_file` is true.

    Raises:
        Exception: One of :data:`yoloqat.detectors.inert.DAMAGE`, or `zipfile.BadZipFile`: the file is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data = _read(archive, _main_pickle(archive))
        return {f"{module}.{name}" for module, name in global_names(io.BytesIO(data))}
    with path.open("rb") as file:
        return {f"{module}.{name}" for _ in range(5) for module, name in global_names(file)}


def load_archive(path: Path) -> Any:
    """Read a file of `torch.save` without importing or running anything that it names.

    Args:
        path: For which :func:`is_torch_file` is true.

    Returns:
        What was saved, with :class:`yoloqat.detectors.inert.Inert` for every object that is no plain container,
        number or text, and :class:`yoloqat.detectors.inert.Held` for tensors, which are views of their storages.

    Raises:
        Exception: As :func:`globals_of`.
    """
    if zipfile.is_zipfile(path):
        return _load_zip(path)
    with path.open("rb") as file:
        return _load_legacy(file, path.stat().st_size)
