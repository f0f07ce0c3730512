"""Importing Ultralytics leaves no trace in the process and lets it neither install nor connect."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from yoloqat.detectors.ultralytics_import import environment_kept

PROBE = """
import json, os, socket
before = dict(os.environ)
calls = []
socket.getaddrinfo = lambda *a, **k: calls.append(a) or (_ for _ in ()).throw(OSError("no network"))
socket.socket.connect = lambda *a, **k: calls.append(a) or (_ for _ in ()).throw(OSError("no network"))
from yoloqat.detectors.ultralytics_import import ultralytics_module
import torch
threads = torch.get_num_threads()
ultralytics_module("nn.tasks")
utils = ultralytics_module("utils")
print(json.dumps({
    "changed": sorted(set(before.items()) ^ set(os.environ.items())),
    "threads": torch.get_num_threads() - threads,
    "safe": utils.SAFE_LOAD, "install": utils.AUTOINSTALL, "online": utils.ONLINE, "calls": len(calls),
}))
"""


def test_an_import_changes_nothing_and_contacts_nobody():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "YOLO_"))}
    result = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(result.stdout)
    assert found == {"changed": [], "threads": 0, "safe": True, "install": False, "online": False, "calls": 0}


def change_and_interrupt():
    assert (os.environ["YOLOQAT_KEPT"], os.environ["YOLOQAT_NEW"]) == ("new", "new")
    del os.environ["YOLOQAT_GONE"]
    os.environ["YOLOQAT_MORE"] = "more"
    raise KeyboardInterrupt


def test_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv("YOLOQAT_KEPT", "old")
    monkeypatch.setenv("YOLOQAT_GONE", "old")
    monkeypatch.delenv("YOLOQAT_NEW", raising=False)
    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt), environment_kept(YOLOQAT_KEPT="new", YOLOQAT_NEW="new"):
        change_and_interrupt()
    assert dict(os.environ) == before
