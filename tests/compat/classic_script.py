"""A post-training quantization script as people write them for NVIDIA's package: it knows nothing of yoloqat.

It is run by importing it while ``pytorch_quantization`` resolves to the compatible namespace.
"""

import re

import torch
from absl import logging as quant_logging
from pytorch_quantization import calib, quant_modules
from pytorch_quantization import nn as quant_nn
from pytorch_quantization.nn.modules import _utils as quant_nn_utils
from pytorch_quantization.tensor_quant import QuantDescriptor


def initialize():
    histogram = QuantDescriptor(calib_method="histogram")
    for layer in (quant_nn.QuantConv2d, quant_nn.QuantMaxPool2d, quant_nn.QuantLinear):
        layer.set_default_quant_desc_input(histogram)
    quant_logging.set_verbosity(quant_logging.ERROR)


def transfer_torch_to_quantization(nn_instance, quant_module):
    quant_instance = quant_module.__new__(quant_module)
    for key, value in vars(nn_instance).items():
        setattr(quant_instance, key, value)

    def __init__(self):  # noqa: N807 - NVIDIA's init_quantizer asks to be called from a function of this name
        if isinstance(self, quant_nn_utils.QuantInputMixin):
            quant_desc_input = quant_nn_utils.pop_quant_desc_in_kwargs(self.__class__, input_only=True)
            self.init_quantizer(quant_desc_input)
            if isinstance(self._input_quantizer._calibrator, calib.HistogramCalibrator):
                self._input_quantizer._calibrator._torch_hist = True
        else:
            quant_desc_input, quant_desc_weight = quant_nn_utils.pop_quant_desc_in_kwargs(self.__class__)
            self.init_quantizer(quant_desc_input, quant_desc_weight)
            if isinstance(self._input_quantizer._calibrator, calib.HistogramCalibrator):
                self._input_quantizer._calibrator._torch_hist = True
                self._weight_quantizer._calibrator._torch_hist = True

    __init__(quant_instance)
    return quant_instance


def quantization_ignore_match(ignore_layer, path):
    if ignore_layer is None:
        return False
    patterns = [ignore_layer] if isinstance(ignore_layer, str) else ignore_layer
    return path in patterns or any(re.match(pattern, path) for pattern in patterns)


def torch_module_find_quant_module(module, module_dict, ignore_layer, prefix=""):
    for name in module._modules:
        submodule = module._modules[name]
        path = name if prefix == "" else prefix + "." + name
        torch_module_find_quant_module(submodule, module_dict, ignore_layer, prefix=path)
        submodule_id = id(type(submodule))
        if submodule_id in module_dict:
            if quantization_ignore_match(ignore_layer, path):
                continue
            module._modules[name] = transfer_torch_to_quantization(submodule, module_dict[submodule_id])


def replace_to_quantization_model(model, ignore_layer=None):
    module_dict = {}
    for entry in quant_modules._DEFAULT_QUANT_MAP:
        module = getattr(entry.orig_mod, entry.mod_name)
        module_dict[id(module)] = entry.replace_mod
    torch_module_find_quant_module(model, module_dict, ignore_layer)


def collect_stats(model, data_loader, device):
    model.eval()
    for _, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if module._calibrator is not None:
                module.disable_quant()
                module.enable_calib()
            else:
                module.disable()
    with torch.no_grad():
        for images in data_loader:
            model(images.to(device, non_blocking=True))
    for _, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if module._calibrator is not None:
                module.enable_quant()
                module.disable_calib()
            else:
                module.enable()


def compute_amax(model, device, **kwargs):
    for _, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer) and module._calibrator is not None:
            if isinstance(module._calibrator, calib.MaxCalibrator):
                module.load_calib_amax(strict=False)
            else:
                module.load_calib_amax(strict=False, **kwargs)
            module._amax = module._amax.to(device)


class disable_quantization:  # noqa: N801 - what such scripts call it
    def __init__(self, model):
        self.model = model

    def apply(self, disabled=True):
        for _, module in self.model.named_modules():
            if isinstance(module, quant_nn.TensorQuantizer):
                module._disabled = disabled

    def __enter__(self):
        self.apply(True)

    def __exit__(self, *args, **kwargs):
        self.apply(False)


def calibrate_model(model, data_loader, device, **kwargs):
    collect_stats(model, data_loader, device)
    compute_amax(model, device, **kwargs)
