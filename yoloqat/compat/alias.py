"""Make ``import pytorch_quantization`` resolve to this namespace where NVIDIA's package is absent."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "pytorch_quantization"
_OURS = f"yoloqat.compat.{NAME}"


def install() -> bool:
    """Let ``import pytorch_quantization`` and its submodules resolve to this namespace from now on.

    A real package that is installed is never shadowed. Where Abseil is absent, which NVIDIA's package brings along,
    ``absl.logging`` is answered too.

    Returns:
        True when the name resolves to this namespace, False when NVIDIA's own package is there and nothing was done.
    """
    if is_installed():
        return True
    if NAME in sys.modules or importlib.util.find_spec(NAME) is not None:
        return False
    package = importlib.import_module(_OURS)
    found = pkgutil.walk_packages(package.__path__, f"{_OURS}.")
    modules = [package, *(importlib.import_module(entry.name) for entry in found)]
    sys.modules.update({module.__name__.removeprefix("yoloqat.compat."): module for module in modules})
    if "absl" not in sys.modules and importlib.util.find_spec("absl") is None:
        sys.modules.update(_absl())
    return True


def is_installed() -> bool:
    """Return whether ``pytorch_quantization`` resolves to this namespace at present."""
    return getattr(sys.modules.get(NAME), "__name__", None) == _OURS


def uninstall() -> None:
    """Undo :func:`install`, and undo the changes of scripts: layers of ``torch.nn``, class defaults, export switches."""
    if not is_installed():
        return
    package = sys.modules[NAME]
    state = importlib.import_module(f"{_OURS}._state")
    for patches in (*reversed(state.HELPERS), state.TORCH_NN, state.DEFAULTS):
        patches.restore()
    state.HELPERS.clear()
    package.nn.TensorQuantizer.use_fb_fake_quant = False
    for name, module in list(sys.modules.items()):
        ours = module.__name__.startswith("yoloqat.compat") if isinstance(module, ModuleType) else False
        if name.partition(".")[0] == NAME or (name.partition(".")[0] == "absl" and ours):
            del sys.modules[name]


@contextmanager
def installed() -> Iterator[bool]:
    """Install inside the block; yields the result of :func:`install`."""
    before = is_installed()
    try:
        yield install()
    finally:
        if not before:
            uninstall()


def _absl() -> dict[str, ModuleType]:
    """Return a package ``absl`` that holds nothing but ``logging``."""
    package = ModuleType("yoloqat.compat.absl")
    # without a spec, importlib.util.find_spec("absl") would raise
    package.__spec__ = ModuleSpec("absl", None)
    package.logging = importlib.import_module("yoloqat.compat.absl_logging")  # type: ignore[attr-defined]
    return {"absl": package, "absl.logging": package.logging}
