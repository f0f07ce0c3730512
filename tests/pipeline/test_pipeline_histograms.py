"""Statistics are found again by what they were made of, and refused where they are of something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from forwards import Forwards
from tiny_detector import IMGSZ, TinyData

from yoloqat.calibration import Statistics
from yoloqat.calibration.cache import differences
from yoloqat.config import CalibrationConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.datasets import calibration_images
from yoloqat.detectors import load_detector
from yoloqat.errors import CalibrationError
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.quant import activation_quantizers

MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]


def make(
    model: Path, data: TinyData, run: Run, *, images: int = 4, quant: QuantConfig | None = None, **more: object
) -> Ptq:
    calibration = CalibrationConfig(
        images=images, **{k: more.pop(k) for k in ("bins", "sample", "select") if k in more}
    )
    return Ptq(
        load_detector(model),
        calibration_images(data.train, images, select=calibration.select),
        quant=quant or QuantConfig(),
        calibration=calibration,
        imgsz=int(more.pop("imgsz", IMGSZ)),
        batch=2,
        run=run,
        **more,
    )


def ranges(ptq: Ptq) -> dict[str, float]:
    return {name: float(quantizer.amax) for name, quantizer in activation_quantizers(ptq.detector.module)}


def test_a_result_beside_serves_another_width_of_codes(
    make_run: MakeRun, tiny_model: Path, tiny_data: TinyData
) -> None:
    first = make(tiny_model, tiny_data, make_run("compare"))
    first.apply(MethodSpec("max"))
    assert first.histograms.parent == make_run("compare").out
    six = QuantConfig(activations=QuantScheme(bits=6))
    second = make(tiny_model, tiny_data, make_run("calibrate"), quant=six)
    forwards = Forwards(second)
    second.apply(MethodSpec("max"))
    assert (forwards.collecting, forwards.others) == (0, 0)
    assert (second.histograms.resolve(), ranges(second)) == (first.histograms.resolve(), ranges(first))
    assert second.calibrated_on()["histograms"] == str(second.histograms)


def test_a_damaged_result_is_collected_again(make_run: MakeRun, tiny_model: Path, tiny_data: TinyData) -> None:
    first = make(tiny_model, tiny_data, make_run())
    first.apply(MethodSpec("max"))
    first.histograms.write_bytes(b"damaged")
    second = make(tiny_model, tiny_data, make_run())
    forwards = Forwards(second)
    second.apply(MethodSpec("max"))
    assert forwards.collecting == 2
    assert Statistics.load(second.histograms).images == 4


def test_images_are_known_by_their_bytes_wherever_they_lie(
    make_run: MakeRun, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    make(tiny_model, tiny_data, make_run()).apply(MethodSpec("max"))
    moved = replace(tiny_data, train=tmp_path / "moved")
    shutil.copytree(tiny_data.train, moved.train)
    again = make(tiny_model, moved, make_run())
    forwards = Forwards(again)
    again.apply(MethodSpec("max"))
    assert forwards.collecting == 0


def test_a_named_file_is_written_then_read(
    make_run: MakeRun, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    file = tmp_path / "deep" / "my.histograms"
    first = make(tiny_model, tiny_data, make_run("a"), histograms=file)
    first.apply(MethodSpec("mse"))
    second = make(tiny_model, tiny_data, make_run("b"), histograms=file)
    forwards = Forwards(second)
    second.apply(MethodSpec("mse"))
    assert forwards.collecting == 0
    assert ranges(second) == ranges(first)
    assert not make_run("a").out.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"imgsz": 96}, "imgsz 64 instead of 96"),
        ({"bins": 4096}, "bins 8192 instead of 4096"),
        ({"sample": 3}, "sample 1 instead of 3"),
        ({"images": 6}, r"4 images instead of 6 \(without "),
        ({"quant": QuantConfig(ignore=("model.0",))}, r"other tensors at model\.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_named_file_of_something_else_is_refused_with_the_difference(
    make_run: MakeRun, tiny_model: Path, tiny_data: TinyData, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    file = tmp_path / "h.npz"
    make(tiny_model, tiny_data, make_run(), histograms=file).apply(MethodSpec("max"))
    other = make(tiny_model, tiny_data, make_run(), histograms=file, **change)
    with pytest.raises(CalibrationError, match=rf"h\.npz' were collected with .*{told}"):
        other.apply(MethodSpec("max"))


def test_differences_in_words() -> None:
    ours = {"weights": "a" * 64, "images": [["x", "1"], ["y", "2"]], "quantizers": {"q": ["t"]}}
    assert differences(ours, ours) == []
    theirs = {"weights": "b" * 64, "images": [["y", "2"], ["x", "1"]], "quantizers": {"q": ["t", "u"]}}
    assert differences(theirs, ours) == [
        "weights bbbbbbbbbbbb... instead of aaaaaaaaaaaa...",
        "2 images instead of 2 (in another order)",
        "other tensors at q",
    ]
    assert differences({}, {"imgsz": 3}) == ["imgsz None instead of 3"]
    many = {"images": [[f"{index}", "0"] for index in range(9)]}
    assert differences({"images": []}, many) == ["0 images instead of 9 (without 0, 1, 2 and 6 more)"]


def test_a_choice_by_range_takes_the_covering_images(make_run: MakeRun, tiny_model: Path, tiny_data: TinyData) -> None:
    chosen = make(tiny_model, tiny_data, make_run("range"), images=2, select="range")
    assert len(chosen._offered) == 8
    assert len(chosen.records) == 2
    chosen.apply(MethodSpec("max"))
    whole = make(tiny_model, tiny_data, make_run("all"), images=8)
    whole.apply(MethodSpec("max"))
    first = make(tiny_model, tiny_data, make_run("first"), images=2, select="first")
    first.apply(MethodSpec("max"))
    top = ranges(whole)

    def covered(ptq: Ptq) -> float:
        return sum(value / top[name] for name, value in ranges(ptq).items()) / len(top)

    assert covered(first) < covered(chosen) <= 1.0
