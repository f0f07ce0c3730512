"""Refinement of a detector: judged on images that took no part, undone where it harms, recorded, resumed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from forwards import CONFIG
from tiny_detector import IMGSZ, TinyData

from yoloqat.config import CalibrationConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.datasets import DetectionDataset, ImageRecord, calibration_images, plan_batches, read_batches
from yoloqat.detectors import Detector, load_checkpoint, load_detector, save_checkpoint
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.evaluation import evaluate
from yoloqat.evaluation.fidelity import NOISE, noise_only
from yoloqat.evaluation.reference import Fidelity
from yoloqat.pipeline import refine, refine_steps
from yoloqat.pipeline.calibrate import calibrate
from yoloqat.pipeline.finetune import float_detector
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.refine import refine_detector
from yoloqat.pipeline.refine_steps import EVERYTHING, QUICK, Kept, Task, noise_loss, steps_of
from yoloqat.pipeline.run import Run
from yoloqat.quant import activation_quantizers, state_digest
from yoloqat.refining import RoundingConfig, learn_rounding

MakeRun = Callable[..., Run]
FOUR_BITS = QuantConfig(
    activations=QuantScheme(bits=4), weights=QuantScheme(bits=4, axis=0, narrow_range=True), quantize_head=True
)


@pytest.fixture(scope="module")
def records(tiny_data: TinyData) -> tuple[ImageRecord, ...]:
    return calibration_images(tiny_data.train, 8)


def quantized(model: Path, records: tuple[ImageRecord, ...], run: Run) -> Ptq:
    """Return the tiny detector at 4 bits, head included."""
    config = CalibrationConfig(images=8)
    return Ptq(load_detector(model), records, quant=FOUR_BITS, calibration=config, imgsz=IMGSZ, batch=4, run=run)


@pytest.fixture(scope="module")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, records: tuple[ImageRecord, ...]
) -> Detector:
    run = Run(tmp_path_factory.mktemp("calibrated"), torch.device("cpu"), 1)
    ptq = quantized(tiny_model, records, run)
    ptq.apply(MethodSpec("max"))
    return ptq.detector


@pytest.fixture
def detector(calibrated: Detector) -> Detector:
    return copy.deepcopy(calibrated)


def refined(detector: Detector, records: tuple[ImageRecord, ...], run: Run, steps: tuple[str, ...] = ("bias",)):
    return refine_detector(detector, records, steps=steps, imgsz=IMGSZ, batch=4, run=run)


def test_the_noise_falls_and_the_checkpoint_says_why(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, tmp_path: Path
) -> None:
    found = refined(detector, records, make_run())
    before, after = found["refine"]
    assert (before["step"], after["step"], after["accepted"]) == ("none", "bias", True)
    assert after["d"] < before["d"]
    assert after["d_change"] == pytest.approx(after["d"] - before["d"])
    assert (found["refine_images"], found["refine_held_out"]) == (6, 2)
    assert all(layer["error_after"] <= layer["error_before"] for layer in found["refine_layers"])
    names = {layer["name"] for layer in found["refine_layers"]}
    assert names.isdisjoint(detector.keep_float)
    assert (
        set(found["refine_skipped"])
        == set(detector.quantization.layers) - names
        == set(detector.keep_float) & set(detector.quantization.layers)
    )
    save_checkpoint(detector, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.quantization.calibration["refine"] == {"steps": ["bias"], "images": 6, "held_out": 2}
    assert state_digest(loaded.module) == state_digest(detector.module)


def test_the_float_model_of_a_refined_one_is_its_file(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, tiny_model: Path
) -> None:
    refined(detector, records, make_run())
    assert state_digest(float_detector(detector).module) == state_digest(load_detector(tiny_model).module)


def test_the_same_again_and_after_an_interruption(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = detector, copy.deepcopy(detector)
    run = make_run()
    expected = refined(first, records, run)
    (part,) = run.out.glob(".parts/*/bias.safetensors")
    loads = []
    whole = Kept.load
    monkeypatch.setattr(Kept, "load", lambda kept: loads.append(kept.path) or whole(kept))
    found = refined(second, records, run)
    assert loads == [part]
    assert state_digest(second.module) == state_digest(first.module)
    assert found["refine"] == expected["refine"]


def test_a_damaged_part_is_made_anew(detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun) -> None:
    second, run = copy.deepcopy(detector), make_run()
    refined(detector, records, run)
    (part,) = run.out.glob(".parts/*/bias.safetensors")
    part.write_bytes(b"damaged")
    refined(second, records, run)
    assert state_digest(second.module) == state_digest(detector.module)


def test_small_harms_do_not_add_up(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    # each step is noisier than the one before within chance, and the second than none beyond chance
    noises = iter([[0.1, 0.1, 0.1, 0.1], [0.13, 0.08, 0.13, 0.08], [0.12, 0.12, 0.121, 0.119]])
    monkeypatch.setattr(
        refine.Reference, "compare", lambda *_, **__: Fidelity({NOISE: np.array(next(noises))}, (1, 2, 3, 4))
    )
    monkeypatch.setattr(refine, "STEPS", {"bias": lambda task: {}, "ranges": lambda task: {}})
    found = refined(detector, records, make_run(), ("bias", "ranges"))
    assert [row["accepted"] for row in found["refine"]] == [True, True, False]
    assert found["refine"][2]["d_change"] == pytest.approx(0.02)


def test_a_step_that_harms_is_undone(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(task: Task) -> dict[str, object]:
        with torch.no_grad():
            for name, value in task.detector.module.named_parameters():
                if name.endswith("conv.bias"):
                    value += 1.0
        for _, quantizer in activation_quantizers(task.detector.module):
            quantizer.amax = quantizer.amax * 2
        return {}

    monkeypatch.setattr(refine, "STEPS", {"bias": harm})
    before = state_digest(detector.module)
    found = refined(detector, records, make_run())
    assert [row["accepted"] for row in found["refine"]] == [True, False]
    assert found["refine"][1]["d_change_ci95"][0] > 0
    assert state_digest(detector.module) == before
    assert "refine" not in detector.quantization.calibration


def test_learned_ranges_are_judged_recorded_and_kept_for_the_biases_that_follow(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine_steps, "learn_ranges", partial(refine_steps.learn_ranges, steps=12))
    second, run = copy.deepcopy(detector), make_run()
    found = refined(detector, records, run, QUICK)
    assert [row["step"] for row in found["refine"]] == ["none", "bias", "ranges", "bias"]
    assert found["refine"][-1]["d"] < found["refine"][0]["d"]
    ranges = {row["name"]: row["amax_after"] for row in found["refine_ranges"]}
    kept = found["refine"][2]["accepted"]
    assert {
        name: float(quantizer.amax) == ranges[name] for name, quantizer in activation_quantizers(detector.module)
    } == dict.fromkeys(ranges, kept)
    assert sorted(path.name for path in run.out.glob(".parts/*/*")) == [
        "bias.safetensors",
        "bias.safetensors",
        "ranges.safetensors",
    ]
    again = refined(second, records, run, QUICK)
    assert (again["refine"], state_digest(second.module)) == (found["refine"], state_digest(detector.module))


def test_what_ranges_lower_is_the_noise(tiny_model: Path) -> None:
    info = load_detector(tiny_model).info
    p, q = torch.rand(2, 3, 4 + info.classes, 50, generator=torch.Generator().manual_seed(0))
    p[1, 4:] = 0.0  # nothing is seen there, so that it has no noise
    expected = noise_only([p.numpy()], [q.numpy()], info)
    assert noise_loss(info)(p, q).item() == pytest.approx(np.nanmean(expected), rel=1e-5)
    scores = torch.tensor([[[0.0, 0, 9, 9, 0.8, 1], [0, 0, 9, 9, 0.2, 3]]])
    other = scores + torch.tensor([0.0, 0, 0, 0, 0.1, 0])
    assert noise_loss(replace(info, end2end=True))(scores, other).item() == pytest.approx(0.2)


def test_float_and_swapped_are_scored_before_the_biases_move(
    tiny_model: Path, records: tuple[ImageRecord, ...], make_run: MakeRun, dataset: DetectionDataset
) -> None:
    ptq = quantized(tiny_model, records, make_run())
    plain = calibrate(ptq, MethodSpec("max"), CONFIG, run=make_run(), dataset=dataset)
    run = make_run()
    found = calibrate(ptq, MethodSpec("max"), CONFIG, run=run, dataset=dataset, refine=("bias",))
    assert [found[key] for key in ("map_float", "map_swapped")] == [plain[key] for key in ("map_float", "map_swapped")]
    assert found["map_qfloat"] == evaluate(ptq.predictor, dataset, CONFIG).metrics.map50_95
    assert "refine" not in plain


def test_the_images_fill_the_canvas(records: tuple[ImageRecord, ...]) -> None:
    assert {record.width == record.height for record in records} != {True}
    for shape in (64, (64, 96)):
        padded, filled = (
            np.concatenate([batch.images for batch in read_batches(plan_batches(records, shape, 3, cropped=cropped))])
            for cropped in (False, True)
        )
        grey = np.float32(114 / 255)
        assert filled.shape == padded.shape
        assert (padded == grey).all(1).mean() > 0.1
        assert (filled == grey).all(1).mean() < 0.02


def test_too_few_images_are_refused(detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun) -> None:
    with pytest.raises(CalibrationError, match="there are 7 images to refine on; expected at least 8"):
        refined(detector, records[:7], make_run())


def test_steps_are_named_by_a_word_or_one_by_one() -> None:
    assert [steps_of(word) for word in ("none", "bias", "all")] == [(), ("bias",), EVERYTHING]
    assert steps_of(["ranges", "bias"]) == steps_of("ranges,bias") == ("ranges", "bias")
    with pytest.raises(ConfigError, match="refine is 'both'; expected one of none, bias, ranges, rounding, all"):
        steps_of("both")
    with pytest.raises(ConfigError, match="refine is ''; expected one of bias, ranges, rounding"):
        steps_of("bias,")


def test_an_unknown_step_is_refused(detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match="refine is 'magic'; expected one of bias, ranges"):
        refined(detector, records, make_run(), ("magic",))


@pytest.mark.parametrize(("key", "told"), [("refine", "refined"), ("finetune", "fine-tuned")])
def test_changed_biases_are_not_refined(
    detector: Detector, records: tuple[ImageRecord, ...], make_run: MakeRun, key: str, told: str
) -> None:
    quantization = detector.quantization
    detector.quantization = replace(quantization, calibration=quantization.calibration | {key: {}})
    with pytest.raises(ModelError, match=rf"tiny.pt' was {told} before"):
        refined(detector, records, make_run())


def test_a_float_detector_is_not_refined(tiny_model: Path, records: tuple[ImageRecord, ...], make_run: MakeRun) -> None:
    with pytest.raises(ModelError, match=r"tiny.pt' is not calibrated"):
        refined(load_detector(tiny_model), records, make_run())


def test_learned_rounding_lowers_the_noise_and_goes_through_the_checkpoint(
    detector: Detector,
    records: tuple[ImageRecord, ...],
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config = RoundingConfig(steps=16, batch=2, weight_rate=0.02, bias_rate=1e-3, keep_every=8)
    monkeypatch.setattr(refine_steps, "learn_rounding", partial(learn_rounding, config=config))
    second, run = copy.deepcopy(detector), make_run()
    found = refined(detector, records, run, ("bias", "rounding"))
    assert [row["step"] for row in found["refine"]] == ["none", "bias", "rounding"]
    assert found["refine"][2]["d"] < found["refine"][0]["d"]
    assert all(block["error_after"] <= block["error_before"] for block in found["refine_blocks"])
    assert set(found["refine_restored"]) <= {block["name"] for block in found["refine_blocks"]}
    assert {layer["name"] for layer in found["refine_rounding"]} == set(detector.quantization.layers)
    assert any(layer["moved"] > 0 for layer in found["refine_rounding"])
    assert (steps_of("all"), steps_of("none")) == (EVERYTHING, ())
    save_checkpoint(detector, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert state_digest(loaded.module) == state_digest(detector.module)
    assert len(list(run.out.glob(".parts/*/rounding.safetensors"))) == 1
    refined(second, records, run, ("bias", "rounding"))  # goes on from what was kept
    assert state_digest(second.module) == state_digest(detector.module)
