"""Installing and uninstalling the name ``pytorch_quantization``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from torch import nn

from yoloqat.compat import install, installed, is_installed, uninstall


@pytest.fixture
def absent():
    """As before any install."""
    uninstall()
    assert "pytorch_quantization" not in sys.modules


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make an importable package of a given name that is not ours."""

    def make(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("REAL = True\n", encoding="utf-8")
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield make
    for name in ("pytorch_quantization", "absl"):
        if hasattr(sys.modules.get(name), "REAL"):
            del sys.modules[name]


def test_the_name_resolves_while_installed_and_not_after(absent):
    assert install() is True
    assert install() is True
    assert is_installed()
    import pytorch_quantization.nn.modules._utils as utils
    from absl import logging

    assert utils.QuantMixin is importlib.import_module("pytorch_quantization.nn").modules._utils.QuantMixin
    assert logging.ERROR == -2
    uninstall()
    uninstall()
    assert not is_installed()
    assert not [name for name in sys.modules if name.partition(".")[0] in ("pytorch_quantization", "absl")]
    with pytest.raises(ModuleNotFoundError, match="No module named 'pytorch_quantization'"):
        importlib.import_module("pytorch_quantization")


def test_an_installed_package_is_never_shadowed(absent, elsewhere):
    elsewhere("pytorch_quantization")
    with installed() as ours:
        assert ours is False
        assert importlib.import_module("pytorch_quantization").REAL
        assert install() is False  # nor one that is imported already
        assert not is_installed()
    assert importlib.import_module("pytorch_quantization").REAL


def test_an_installed_abseil_is_never_shadowed(absent, elsewhere):
    elsewhere("absl")
    with installed():
        assert importlib.import_module("absl").REAL
    assert importlib.import_module("absl").REAL


def test_abseil_is_answered_for_its_logging_alone():
    assert importlib.util.find_spec("absl") is not None
    with pytest.raises(ModuleNotFoundError, match=r"absl\.flags"):
        importlib.import_module("absl.flags")


def test_what_nvidias_package_has_and_this_has_not_is_missing():
    with pytest.raises(ModuleNotFoundError, match=r"pytorch_quantization\.nn\.modules\.quant_rnn"):
        importlib.import_module("pytorch_quantization.nn.modules.quant_rnn")


def test_leaving_the_context_takes_everything_back(absent):
    before = {name: getattr(nn, name) for name in ("Conv2d", "Linear", "AvgPool2d")}
    with installed():
        pq = importlib.import_module("pytorch_quantization")
        histogram = pq.tensor_quant.QuantDescriptor(calib_method="histogram")
        pq.quant_modules.initialize()
        pq.nn.QuantConv2d.set_default_quant_desc_input(histogram)
        pq.nn.QuantConv2d.set_default_quant_desc_weight(histogram)
        pq.nn.TensorQuantizer.use_fb_fake_quant = True
        assert nn.Conv2d is pq.nn.QuantConv2d
        with installed() as inner:  # leaving the inner one leaves the outer one alone
            assert inner is True
        assert nn.Conv2d is pq.nn.QuantConv2d
    assert {name: getattr(nn, name) for name in before} == before
    assert pq.nn.TensorQuantizer.use_fb_fake_quant is False
    assert pq.nn.QuantConv2d.default_quant_desc_input.calib_method == "max"
    assert pq.nn.QuantConv2d.default_quant_desc_weight.axis == 0
    assert "default_quant_desc_input" not in vars(pq.nn.QuantConv2d)
