"""Libraries of TensorRT that hold nothing but the names its Python bindings ask for, so that these can be imported.

What is then in memory is the real binding: its classes, signatures, enumerations and what may be derived from. Whatever
reaches into the library gets a null pointer, as on a machine without a GPU.
"""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path


def unpack(wheel: Path, directory: Path) -> Path:
    """Unpack a wheel of ``tensorrt_cuNN_bindings`` as the package ``tensorrt``, and return where to import it from."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "raw")
    package = directory / "site" / "tensorrt"
    package.parent.mkdir(parents=True)
    (directory / "raw" / "tensorrt_bindings").rename(package)
    return package.parent


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compile_empty(bindings: Path, directory: Path) -> Path:
    """Compile a library for each that the bindings need, and return the directory they lie in."""
    directory.mkdir(parents=True)
    listed = _output("nm", "-D", "--undefined-only", str(bindings))
    names = sorted(set(re.findall(r" U ((?:create|get|init)\w*(?:Infer|Nv|PluginRegistry)\w*)$", listed, re.MULTILINE)))
    needed = re.findall(r"NEEDED.*\[(libnv\S+)\]", _output("readelf", "-d", str(bindings)))
    assert names, "the bindings ask for no name of TensorRT"
    assert needed, "the bindings need no library of TensorRT"
    for index, library in enumerate(needed):
        source = directory / f"{library}.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in (names if index == 0 else ())))
        output = str(directory / library)
        _output("gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", output, str(source))
    return directory
