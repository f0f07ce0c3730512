"""The public names of the namespace are frozen: scripts rely on every one of them."""

from __future__ import annotations

import importlib
import logging

import pytest

DIMENSIONS = ("1d", "2d", "3d")
CONVOLUTIONS = {f"{kind}{d}" for kind in ("Conv", "ConvTranspose") for d in DIMENSIONS}
POOLS = {f"{kind}{d}" for kind in ("MaxPool", "AvgPool", "AdaptiveAvgPool") for d in DIMENSIONS}
NORMS = {f"QuantInstanceNorm{d}" for d in DIMENSIONS}
BOTH = {name for short in (*CONVOLUTIONS, *POOLS, "Linear") for name in (short, f"Quant{short}")}

PUBLIC = {
    "": {
        "calib",
        "cuda_ext",
        "deactivate",
        "enable_onnx_export",
        "initialize",
        "nn",
        "optim",
        "quant_modules",
        "tensor_quant",
        "utils",
    },
    ".calib": {"HistogramCalibrator", "MaxCalibrator", "calibrate_weights"},
    ".calib.calibrator": {"_Calibrator"},
    ".calib.histogram": {"HistogramCalibrator"},
    ".calib.max": {"MaxCalibrator"},
    ".cuda_ext": {"fake_e4m3fy", "fake_tensor_quant", "fake_tensor_quant_", "fake_tensor_quant_with_axis"},
    ".nn": {*BOTH, *NORMS, "Clip", "TensorQuantizer", "functional"},
    ".nn.functional": {"ClipFunction", "clip", "native_fake_quant"},
    ".nn.modules._utils": {"QuantInputMixin", "QuantMixin", "pop_quant_desc_in_kwargs"},
    ".nn.modules.clip": {"Clip"},
    ".nn.modules.quant_conv": {name for short in CONVOLUTIONS for name in (short, f"Quant{short}")},
    ".nn.modules.quant_instancenorm": NORMS,
    ".nn.modules.quant_linear": {"Linear", "QuantLinear"},
    ".nn.modules.quant_pooling": {name for short in POOLS for name in (short, f"Quant{short}")},
    ".nn.modules.tensor_quantizer": {"TensorQuantizer"},
    ".optim.helper": {"freeze_parameters", "group_parameters", "match_parameters", "quant_weight_inplace"},
    ".quant_modules": {"deactivate", "enable_onnx_export", "initialize"},
    ".tensor_quant": {
        "QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL",
        "QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL",
        "QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL",
        "QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL",
        "QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL",
        "QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL",
        "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW",
        "QUANT_DESC_8BIT_PER_TENSOR",
        "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR",
        "QuantDescriptor",
        "ScaledQuantDescriptor",
        "fake_affine_tensor_quant",
        "fake_tensor_quant",
        "legacy_fake_tensor_quant",
        "scaled_e4m3",
        "tensor_quant",
    },
    ".utils": {"reduce_amax"},
    ".utils.quant_logging": {"reset_logger_handler"},
    ".utils.reduce_amax": {"reduce_amax"},
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_names_are_these(name: str):
    module = importlib.import_module(f"pytorch_quantization{name}")
    assert set(module.__all__) == PUBLIC[name]
    assert all(hasattr(module, public) for public in PUBLIC[name])
    assert module is importlib.import_module(f"yoloqat.compat.pytorch_quantization{name}")


def test_the_map_names_torchs_layers_and_their_quantized_forms(pq):
    entries = {entry.mod_name: entry for entry in pq.quant_modules._DEFAULT_QUANT_MAP}
    average = {name for name in POOLS if "Avg" in name}
    assert entries.keys() == {*CONVOLUTIONS, *average, "Linear"}
    assert all(issubclass(entry.replace_mod, getattr(entry.orig_mod, name)) for name, entry in entries.items())


def test_the_version_is_where_scripts_look(pq):
    assert importlib.import_module("pytorch_quantization.version").__version__ == pq.__version__ == "2.2.1+yoloqat"


def test_the_handlers_of_the_root_logger_are_taken_off(monkeypatch: pytest.MonkeyPatch, pq):
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler(), logging.NullHandler()])
    pq.utils.quant_logging.reset_logger_handler()
    assert logging.root.handlers == []


def test_yoloqats_own_side_is_small():
    compat = importlib.import_module("yoloqat.compat")
    assert compat.__all__ == ["install", "installed", "is_installed", "uninstall"]
