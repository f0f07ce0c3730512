"""Float, fake-quantized (QFloat) and integer (Q): the three stages of quantization on a small classifier.

    python examples/classifier.py [DIRECTORY]

Trains a convolutional network on scikit-learn's bundled digits (1,797 real 8 x 8 images, no download), quantizes it with
affine 8-bit activations, fine-tunes it under fake quantization for a few steps, exports QDQ ONNX, and runs that file in
ONNX Runtime's integer kernels and in OpenVINO. It prints the accuracy of each stage and the two gaps, Float to QFloat and
QFloat to Q, and computes one layer in integers as arXiv:1712.05877 describes it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.engines.openvino_import import import_openvino
from yoloqat.engines.ort_import import import_onnxruntime
from yoloqat.export import export_module
from yoloqat.quant import calibrate_module, module_qparams, quantize_module

onnxruntime, openvino = import_onnxruntime(), import_openvino()  # without their telemetry

EPOCHS, QAT_STEPS, TRAINING_IMAGES = 12, 20, 1200


class Digits(nn.Module):
    """Three convolutions with batch-norms, one residual Add, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores, shape (batch, 10), of images, shape (batch, 1, 8, 8), in [0, 1]."""
        x = self.stem(images)
        x = self.down(x + self.body(x))
        scores: Tensor = self.head(x.flatten(1))
        return scores


def train(module: nn.Module, images: Tensor, labels: Tensor, *, steps: int, rate: float) -> None:
    """Train a module in place on random batches of 64."""
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    order = torch.Generator().manual_seed(0)
    module.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (64,), generator=order)
        loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()


def integer_scores(path: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the scores of an exported file by engine."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # what is not INT8 stays FP32 on processors with bfloat16
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return {
        "ONNX Runtime": session.run(None, {"images": images})[0],
        "OpenVINO": np.asarray(compiled([images])[0]),
    }


def linear_in_integers(
    x: NDArray[np.float32], layer: nn.Linear, *, scales: tuple[float, NDArray[np.float32]], zero_point: int
) -> NDArray[np.float64]:
    """Compute a linear layer in integers: equation 7 of arXiv:1712.05877, with one weight scale per output.

    Args:
        x: Inputs, shape (batch, inputs).
        layer: The float layer.
        scales: Real value of one integer step of the input, and of each row of the weight, shape (outputs,).
        zero_point: Integer of the input that stands for 0; that of the weights is 0.
    """
    (step, steps), weight = scales, layer.weight.detach().numpy()
    q1 = np.clip(np.rint(x / step) + zero_point, -128, 127).astype(np.int64)
    q2 = np.clip(np.rint(weight / steps[:, None]), -127, 127).astype(np.int64)
    accumulated = q1 @ q2.T - zero_point * q2.sum(axis=1)  # what an engine keeps in 32 bits
    assert np.abs(accumulated).max() < 2**31
    bias = np.rint(layer.bias.detach().numpy() / (step * steps))
    return np.asarray((accumulated + bias) * (step * steps))


def main(directory: Path) -> dict[str, float]:
    """Run the three stages, print the table, and return its numbers."""
    torch.manual_seed(0)
    digits = load_digits()
    pixels = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
    labels = torch.from_numpy(digits.target)
    learn, test = slice(None, TRAINING_IMAGES), slice(TRAINING_IMAGES, None)

    model = Digits()
    train(model, pixels[learn], labels[learn], steps=EPOCHS * TRAINING_IMAGES // 64, rate=3e-3)

    config = QuantConfig(activations=QuantScheme(symmetric=False))
    calibration = list(pixels[learn][:256].split(64))
    quantized = calibrate_module(quantize_module(model, calibration[0], config), calibration, "mse")
    tuned = calibrate_module(quantized, calibration, "mse")  # a copy to train
    train(tuned, pixels[learn], labels[learn], steps=QAT_STEPS, rate=1e-4)

    path = directory / "digits.onnx"
    report = export_module(tuned, path, pixels[test])
    with torch.inference_mode():
        scores = {
            "Float": model(pixels[test]).numpy(),
            "QFloat, calibrated": quantized(pixels[test]).numpy(),
            "QFloat, fine-tuned": tuned(pixels[test]).numpy(),
        }
    engines = {f"Q, {name}": value for name, value in integer_scores(path, pixels[test].numpy()).items()}
    gaps = {"QFloat, calibrated": "Float", **dict.fromkeys(engines, "QFloat, fine-tuned")}
    scores |= engines

    truth, found = labels[test].numpy(), {}
    print(f"{report.quantized_convolutions} of {report.convolutions} convolutions quantized, {len(truth)} test images")
    print(f"{'stage':<20} {'accuracy':>8}  {'gap':>8}  (mean difference of a score)")
    for name, value in scores.items():
        found[name] = float((value.argmax(1) == truth).mean())
        line = f"{name:<20} {found[name]:>8.4f}"
        if name in gaps:
            found[f"{name}, gap"] = float(np.abs(value - scores[gaps[name]]).mean())
            line += f"  {found[f'{name}, gap']:>8.5f}  from {gaps[name]}"
        print(line)

    head = tuned.get_submodule("head")
    qparams = module_qparams(tuned)
    inputs, weights = qparams.activations["head._input_quantizer"], qparams.weights["head"]
    with torch.inference_mode():
        x = tuned.down(tuned.stem(pixels[test]) + tuned.body(tuned.stem(pixels[test]))).flatten(1)
    by_hand = linear_in_integers(
        x.numpy(), head, scales=(float(inputs.scale), weights.scale), zero_point=int(inputs.zero_point)
    )
    found["integers by hand, gap"] = float(np.abs(by_hand - scores["QFloat, fine-tuned"]).max())
    print(f"the last layer in integers by hand: largest difference from QFloat {found['integers by hand, gap']:.2e}")
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
