"""OpenVINO without its telemetry; run as a script, a trial of its reader in a process of its own."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """Import OpenVINO so that it sends nothing.

    Its converter reports every import to Google Analytics unless the package ``openvino_telemetry`` is absent, for which
    it has a stand-in that does nothing. So that package is hidden for the length of the first import.

    Returns:
        The module ``openvino``.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    absent = object()
    before = sys.modules.get(_TELEMETRY, absent)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # how Python itself marks a module as not importable
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
        if before is not absent:
            sys.modules[_TELEMETRY] = before  # type: ignore[assignment]


if __name__ == "__main__":
    import_openvino().Core().read_model(sys.argv[1] if sys.argv[1:] else sys.stdin.buffer.read())
