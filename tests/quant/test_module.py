"""Any torch module, not only a detector: batch-norms folded, layers swapped, scales shared, ranges from batches."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import CalibrationError, ConfigError, ExportError, ModelError
from yoloqat.export import export_module
from yoloqat.quant import (
    TensorQuantizer,
    activation_quantizers,
    calibrate_module,
    fold_batch_norms,
    module_qparams,
    quantization_disabled,
    quantize_module,
    shared_locations,
)

AFFINE = QuantConfig(activations=QuantScheme(symmetric=False))


class Net(nn.Module):
    """Two convolutions that read one tensor, a batch-norm after each, a residual Add, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.left, self.left_norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.right = nn.Conv2d(8, 8, 1)
        self.head, self.head_norm = nn.Linear(8, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.left_norm(self.left(x))) + self.right(x)
        return self.head_norm(self.head(x.mean((2, 3))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    found = Net().eval()
    for module in found.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return found


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.3


def test_batch_norms_are_folded_and_the_module_is_left_alone(net: Net, x: torch.Tensor) -> None:
    before = copy.deepcopy(net.state_dict())
    folded = fold_batch_norms(net, x)
    assert not any(isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) for child in folded.modules())
    torch.testing.assert_close(folded(x), net(x), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert isinstance(net.norm, nn.BatchNorm2d)


def test_a_batch_norm_whose_layer_has_another_reader_stays(x: torch.Tensor) -> None:
    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    tapped = Tapped().eval()
    tapped.norm.running_mean.normal_()
    folded = fold_batch_norms(tapped, x)
    assert isinstance(folded.norm, nn.BatchNorm2d)
    assert torch.equal(folded(x), tapped(x))


def test_a_layer_that_runs_twice_keeps_its_batch_norms(x: torch.Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.conv(self.one(self.conv(x))))

    twice = Twice().eval()
    twice.one.running_mean.normal_()
    assert torch.equal(fold_batch_norms(twice, x)(x), twice(x))


def test_the_copy_is_quantized_and_close(net: Net, x: torch.Tensor) -> None:
    quantized = quantize_module(net, x)
    assert not any(isinstance(child, TensorQuantizer) for child in net.modules())
    # both convolutions behind the stem read one tensor: one scale
    assert shared_locations(quantized) == {"right._input_quantizer": "left._input_quantizer"}
    calibrated = calibrate_module(quantized, [x], "max")
    assert all(quantizer.amax is None for _, quantizer in activation_quantizers(quantized))
    with quantization_disabled(calibrated):
        torch.testing.assert_close(calibrated(x), net(x), atol=1e-5, rtol=1e-5)
    error = (calibrated(x) - net(x)).abs().max()
    assert 0 < error < 0.05 * net(x).abs().max()


def test_the_range_is_that_of_all_batches(net: Net, x: torch.Tensor) -> None:
    quantized = quantize_module(net, x)
    calibrated = calibrate_module(quantized, (part * factor for part, factor in ((x, 1), (x, 3))), "max")
    amax = dict(activation_quantizers(calibrated))["stem._input_quantizer"].amax
    assert amax is not None
    assert float(amax) == pytest.approx(float(3 * x.abs().max()), rel=1e-6)


def test_it_trains_under_fake_quantization(net: Net, x: torch.Tensor) -> None:
    tuned = calibrate_module(quantize_module(net, x, AFFINE), [x], "mse").train()
    wanted = torch.zeros(4, 4)
    optimizer = torch.optim.SGD(tuned.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        loss = nn.functional.mse_loss(tuned(x), wanted)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert calibrate_module(tuned, [x], "mse").training


def test_a_pattern_leaves_a_layer_float(net: Net, x: torch.Tensor) -> None:
    numbers = module_qparams(calibrate_module(quantize_module(net, x, QuantConfig(ignore=("head",))), [x]))
    assert set(numbers.weights) == {"stem", "left", "right"}


def test_a_module_without_a_layer_to_quantize_is_named(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="module Net has 4 layers with a quantized form, all of them left float"):
        quantize_module(net, x, QuantConfig(ignore=("*",)))


def test_a_float_module_cannot_be_calibrated(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(CalibrationError, match="module Net has 0 quantizers; expected a module that quantize_module"):
        calibrate_module(net, [x])


def test_without_a_batch_no_quantizer_is_reached(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(CalibrationError, match=r"quantizer 'stem._input_quantizer' was not reached by 0 batches"):
        calibrate_module(quantize_module(net, x), [])


def test_a_method_that_does_not_exist_is_named(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="calibration method is 'guess'"):
        calibrate_module(quantize_module(net, x), [x], "guess")


def test_a_module_that_branches_on_data_is_named(x: torch.Tensor) -> None:
    class Branching(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(ModelError, match="module Branching cannot be traced"):
        quantize_module(Branching(nn.Conv2d(3, 8, 1)), x)


@pytest.mark.parametrize("config", [QuantConfig(), AFFINE], ids=["symmetric", "affine"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_exported_file_computes_what_the_module_does(
    net: Net, x: torch.Tensor, tmp_path, config: QuantConfig, dynamic: bool
) -> None:
    import onnxruntime

    calibrated = calibrate_module(quantize_module(net, x, config), [x], "mse")
    path = tmp_path / "net.onnx"
    report = export_module(calibrated, path, x, dynamic=dynamic, metadata={"author": "me"})
    assert (report.quantized_convolutions, report.convolutions) == (3, 3)
    assert report.aliases == {"right/input/QuantizeLinear": "left/input/QuantizeLinear"}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": x.numpy()})[0]
    numbers, head = module_qparams(calibrated), calibrated.get_submodule("head")
    step = float(numbers.activations["head._input_quantizer"].scale)
    one_step = step * float(
        head.weight.detach().abs().max()
    )  # what one value of the last layer's input that rounds elsewhere does
    np.testing.assert_allclose(found, calibrated(x).detach().numpy(), atol=2 * one_step)
    assert session.get_modelmeta().custom_metadata_map["author"] == "me"
    if dynamic:
        assert session.run(None, {"images": x[:1].numpy()})[0].shape == (1, 4)


def test_a_module_without_ranges_is_not_exported(net: Net, x: torch.Tensor, tmp_path) -> None:
    with pytest.raises(CalibrationError, match=r"quantizer '\w+._input_quantizer' has no amax"):
        export_module(quantize_module(net, x), tmp_path / "net.onnx", x)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_behind_a_transposed_convolution_is_folded(*, groups: int, affine: bool, tmp_path) -> None:
    generator = torch.Generator().manual_seed(2)
    norm = nn.BatchNorm2d(8, affine=affine)
    norm.running_mean.normal_(generator=generator)
    norm.running_var.uniform_(0.5, 2, generator=generator)
    up = nn.ConvTranspose2d(8, 8, 3, 2, output_padding=1, groups=groups, bias=affine)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), up, norm, nn.ReLU()).eval()
    x = torch.rand(2, 3, 4, 4, generator=generator)
    folded = fold_batch_norms(model, x)
    assert isinstance(folded[2], nn.Identity)
    torch.testing.assert_close(folded(x), model(x), atol=1e-5, rtol=1e-5)
    quantized = calibrate_module(quantize_module(model, x), [x], "max")
    export_module(quantized, tmp_path / "up.onnx", x)
    session = onnxruntime.InferenceSession(tmp_path / "up.onnx", providers=["CPUExecutionProvider"])
    expected = quantized(x).detach().numpy()
    np.testing.assert_allclose(session.run(None, {"images": x.numpy()})[0], expected, atol=0.02 * expected.max())


def test_a_batch_norm_without_statistics_of_its_own_stays(x: torch.Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert torch.equal(fold_batch_norms(model, x)(x), model(x))


class Functional(nn.Module):
    """A batch-norm that is no module, so that only the exporter folds it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("mean", torch.ones(4))
        self.register_buffer("var", torch.full((4,), 4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(self.conv(x), self.mean, self.var)


def test_a_weight_that_the_exporter_changes_is_not_replaced(x: torch.Tensor, tmp_path) -> None:
    quantized = calibrate_module(quantize_module(Functional(), x), [x], "max")
    with pytest.raises(ExportError, match="weight of layer 'conv' differs in the graph by up to 0"):
        export_module(quantized, tmp_path / "model.onnx", x)
    assert not list(tmp_path.iterdir())


def test_another_dtype_than_float32_is_refused(net: Net, x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r"example is of torch.float64; expected float32"):
        quantize_module(net.double(), x.double())


@pytest.mark.parametrize("whole", [False, True])
def test_layers_that_share_a_weight_are_refused(whole: bool) -> None:
    class Tied(nn.Sequential):
        def __init__(self) -> None:
            first, second = nn.Linear(8, 8), nn.Linear(8, 8)
            second.weight = first.weight
            super().__init__(first, nn.ReLU(), first if whole else second)

    with pytest.raises(ConfigError, match=r"layers '0' and '2' share one weight; expected a weight for each layer"):
        quantize_module(Tied().eval(), torch.zeros(4, 8))
