"""What a training step costs under fake quantization: the same trainer, loss and images, float and quantized, interleaved.

    python benchmarks/qat_step.py CHECKPOINT.safetensors --imgsz 320 --batch 8 --threads 2

With --float MODEL.pt the checkpoint was made from, the step of `yolo train` is taken too: the float model with its batch-norms,
which yoloqat folds before it trains.

Each variant takes a step in turn, so that whatever else the machine does hits all alike; the figure is the median of the
ratios of each round. A step is Ultralytics' forward, loss, backward, clipping, AdamW and averaging of weights, on random
images with a few boxes each. Memory is what autograd keeps between forward and backward.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloqat.detectors import load_detector, torch_device, torch_threads
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.finetuning import LossWeights
from yoloqat.finetuning.distill import DistillingCriterion, float_teacher
from yoloqat.finetuning.ranges import LearnedRanges, RangeGuard
from yoloqat.provenance import environment
from yoloqat.quant import quantizers

NORMS = "float, batch-norms"
"""The step of `yolo train`."""


class Step:
    """One variant of the training step."""

    def __init__(self, module: nn.Module, teacher: nn.Module | None, *, learn: bool = False) -> None:
        settings = ultralytics_module("cfg").get_cfg()
        module.args = settings  # type: ignore[assignment]
        self.module = module.train().requires_grad_(True)
        head: Any = module.model[-1]  # type: ignore[index]
        head.dfl.requires_grad_(False)
        weights = LossWeights() if teacher is not None else LossWeights(outputs=0, features=0)
        module.criterion = DistillingCriterion(module.init_criterion(), teacher, weights, bins=head.reg_max)  # type: ignore[assignment, operator]
        self.learned = LearnedRanges(module) if learn else None
        extra = self.learned.parameters if self.learned else []
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW([*trained, *extra], lr=1e-6)
        self.guard = RangeGuard(module)
        criterion, module.criterion = module.criterion, None  # type: ignore[assignment]
        self.average = ultralytics_module("utils.torch_utils").ModelEMA(module)
        module.criterion = criterion

    def __call__(self, batch: dict[str, Any]) -> None:
        """Take one step, as the trainer does."""
        loss, _ = self.module(batch)
        loss.backward()
        if self.learned is not None:
            self.learned.pull_gradients()
        nn.utils.clip_grad_norm_(self.module.parameters(), max_norm=10.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.learned is not None:
            self.learned.push_values()
        self.average.update(self.module)
        self.guard.check()

    def kept_bytes(self, batch: dict[str, Any]) -> int:
        """Return the bytes of distinct tensors that autograd keeps for the backward pass."""
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss, _ = self.module(batch)
        del loss
        return sum(kept.values())


def variants(checkpoint: Path, device: torch.device, floating: Path | None = None) -> dict[str, Step]:
    """Return the float and the quantized steps, and that of `yolo train` where its model is given."""

    def fresh(*, quantized: bool) -> nn.Module:
        module = load_detector(checkpoint).module.to(device)
        for _, quantizer in quantizers(module):
            if not quantized:
                quantizer.disable()
        return module

    teacher = float_teacher(copy.deepcopy(fresh(quantized=False)))
    unfolded = {} if floating is None else {NORMS: Step(with_norms(floating).to(device), None)}
    return unfolded | {
        "float": Step(fresh(quantized=False), None),
        "QAT": Step(fresh(quantized=True), None),
        "QAT, ranges learned": Step(fresh(quantized=True), None, learn=True),
        "float, distilling": Step(fresh(quantized=False), teacher),
        "QAT, distilling": Step(fresh(quantized=True), teacher),
    }


def with_norms(path: Path) -> nn.Module:
    """Return the detection model of a .pt file as Ultralytics trains it: batch-norms apart and learning their statistics."""
    module, _ = ultralytics_module("nn.tasks").load_checkpoint(path)
    found: nn.Module = module.float()
    return found


def images(batch: int, imgsz: int, classes: int, device: torch.device) -> dict[str, Any]:
    """Return a batch of noise with five boxes an image."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(batch * 5, 4, generator=generator) * 0.4 + 0.3
    data = {
        "img": torch.rand(batch, 3, imgsz, imgsz, generator=generator),
        "cls": torch.randint(classes, (batch * 5, 1), generator=generator).float(),
        "bboxes": boxes,
        "batch_idx": torch.arange(batch).repeat_interleave(5).float(),
    }
    return {name: value.to(device) for name, value in data.items()}


def config(args: argparse.Namespace) -> dict[str, str]:
    """Return the arguments as texts."""
    return {name: str(value) for name, value in vars(args).items()}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description="Time QAT steps beside float ones.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--float", type=Path, metavar="MODEL.pt", help="the model that the checkpoint was made from")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, for a machine that is busy")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    device = torch_device(args.device)
    clock = time.process_time if args.cpu_time else time.perf_counter
    steps = variants(args.checkpoint, device, args.float)
    with torch_threads(args.threads):
        batch = images(args.batch, args.imgsz, load_detector(args.checkpoint).info.classes, device)
        memory = {name: step.kept_bytes(batch) for name, step in steps.items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(args.rounds + 1):
            for name, step in steps.items():
                start = clock()
                step(dict(batch))
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:  # the first round warms up
                    times[name].append(clock() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {}
    for name, median in medians.items():
        base = "float, distilling" if "distilling" in name else "float"
        ratios[name] = statistics.median(ours / theirs for ours, theirs in zip(times[name], times[base], strict=True))
        print(
            f"{name:22} {1000 * median:8.1f} ms  {ratios[name]:5.2f} x {base}, "
            f"{memory[name] / 2**20:8.1f} MiB kept ({memory[name] / memory[base]:.2f} x)"
        )
    if NORMS in times:
        for name in ("QAT", "QAT, distilling"):
            ratio = statistics.median(ours / theirs for ours, theirs in zip(times[name], times[NORMS], strict=True))
            print(f"{name}: {ratio:.2f} x {NORMS}")
    if args.out is not None:
        figures = {"median_seconds": medians, "ratios": ratios, "kept_bytes": memory, "config": config(args)}
        provenance = environment(device=str(device), threads=args.threads)
        args.out.write_text(json.dumps({"results": figures, "provenance": provenance}, indent=2) + "\n")


if __name__ == "__main__":
    main()
