"""What a result says of the machine it was measured on."""

from __future__ import annotations

import json
import os
from importlib import metadata

import pytest

from yoloqat.provenance import environment


def test_keys_and_values():
    found = environment(device="cpu", threads=3, seed=7)
    assert set(found) == {
        *("yoloqat", "python", "platform", "processor", "cores", "device", "threads", "seed", "packages"),
    }
    assert (found["device"], found["threads"], found["seed"]) == ("cpu", 3, 7)
    assert found["cores"] == os.cpu_count()
    assert found["processor"]
    assert found["yoloqat"] == metadata.version("yoloqat")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_only_installed_packages_are_listed():
    packages = environment(device="cpu", threads=1)["packages"]
    assert packages["torch"] == metadata.version("torch")
    assert all(packages.values())
    assert environment(device="cpu", threads=1)["seed"] is None


def test_a_machine_that_hides_its_processor_still_has_a_name(monkeypatch):
    def hidden(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", hidden)
    assert environment(device="cpu", threads=1)["processor"]


@pytest.mark.parametrize("lines", ["", "flags : fpu\n"])
def test_a_list_of_processors_without_names(monkeypatch, lines):
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: lines)
    assert environment(device="cpu", threads=1)["processor"]
