"""What is wrong with the input is told in one line, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from tiny_detector import TinyData, make_module, save_module

Cli = Callable[..., Any]


def refused(ran: Any, command: str, *parts: str) -> str:
    """Check that a run ended with one clear line and no file, and return the line."""
    assert ran.code == 2, (ran.code, ran.err)
    assert ran.out == ""
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith(f"yoloqat {command}: ")
    for part in parts:
        assert part in lines[0], lines[0]
    assert not ran.directory.is_dir() or ran.files == [], ran.files
    return str(lines[0])


@pytest.fixture
def own(tiny_data: TinyData, tmp_path: Path) -> TinyData:
    """A data set that the test may change."""
    there = tmp_path / "set"
    shutil.copytree(tiny_data.yaml.parent, there)
    return TinyData(there / "data.yaml", there / "images" / "val", there / "coco.json", there / "images" / "train")


class TestModel:
    @pytest.mark.parametrize("command", ["eval", "compare", "calibrate", "export", "build", "bench"])
    def test_that_is_missing(self, cli: Cli, tiny_data: TinyData, tmp_path: Path, command: str) -> None:
        data = () if command == "bench" else ("--data", tiny_data.yaml)
        ran = cli(command, tmp_path / "absent.pt", *data, *(("--calib-images", 2) if command == "calibrate" else ()))
        refused(ran, command, "absent.pt")

    @pytest.mark.parametrize("name", ["text.pt", "text.safetensors", "text.onnx", "text.engine", "text"])
    def test_that_is_text(self, cli: Cli, tiny_data: TinyData, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("these are no weights\n" * 40)
        refused(cli("eval", tmp_path / name, "--data", tiny_data.yaml), "eval", f"{name}'")

    @pytest.mark.parametrize("content", [[1, 2], {"model": "yolo"}, {"state": torch.zeros(3)}, torch.zeros(2)])
    def test_that_holds_something_else(self, cli: Cli, tiny_data: TinyData, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "other.pt")
        refused(cli("eval", tmp_path / "other.pt", "--data", tiny_data.yaml), "eval", "other.pt'")

    @pytest.mark.parametrize("kind", ["tiny_model", "tiny_checkpoint", "tiny_onnx"])
    def test_that_was_cut_short(
        self, cli: Cli, tiny_data: TinyData, tmp_path: Path, request: pytest.FixtureRequest, kind: str
    ) -> None:
        source: Path = request.getfixturevalue(kind)
        content = source.read_bytes()
        path = tmp_path / f"cut{source.suffix}"
        path.write_bytes(content[: len(content) // 2])
        refused(cli("eval", path, "--data", tiny_data.yaml), "eval", path.name)

    def test_that_is_a_directory_of_something_else(self, cli: Cli, tiny_data: TinyData, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        refused(
            cli("eval", tmp_path / "folder", "--data", tiny_data.yaml),
            "eval",
            "folder' is no OpenVINO directory",
        )

    def test_that_is_an_onnx_file_without_metadata(self, cli: Cli, tiny_data: TinyData, tmp_path: Path) -> None:
        shape = [1, 3, 64, 64]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
        onnx.save(
            helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 19)]), tmp_path / "f.onnx"
        )
        refused(cli("eval", tmp_path / "f.onnx", "--data", tiny_data.yaml), "eval", "f.onnx'", "'names'")
        refused(cli("build", tmp_path / "f.onnx"), "build", "f.onnx'", "'names'")

    @pytest.mark.parametrize("command", ["calibrate", "compare"])
    def test_that_is_quantized_already(
        self, cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, command: str
    ) -> None:
        ran = cli(command, tiny_checkpoint, "--data", tiny_data.yaml, "--calib-images", 2)
        refused(ran, command, "is quantized already (22 layers)")

    def test_that_has_a_width_no_engine_runs(
        self, cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
    ) -> None:
        arguments = ("--calib-images-dir", tiny_data.train, "--calib-images", 2, "--bits", 6, "--no-eval")
        made = cli("calibrate", tiny_model, *arguments, "--method", "max", out=tmp_path / "six")
        ran = cli("export", made.directory / "model.safetensors")
        refused(ran, "export", "quantizer 'model.0.conv._input_quantizer' has 6 bits")

    def test_named_twice(self, cli: Cli, tiny_model: Path) -> None:
        refused(cli("bench", tiny_model, tiny_model), "bench", "tiny.pt' is named twice")

    def test_made_for_another_size(self, cli: Cli, tiny_model: Path, tiny_onnx: Path, tiny_data: TinyData) -> None:
        refused(cli("bench", tiny_model, tiny_onnx, "--imgsz", 96), "bench", "model.onnx' takes", "(96, 96)")
        refused(cli("eval", tiny_onnx, "--imgsz", 96, "--data", tiny_data.yaml), "eval", "fixed to 64 x 64")
        ran = cli("build", tiny_onnx, "--imgsz", 96, "--data", tiny_data.yaml)
        refused(ran, "build", "imgsz is 96", "fixed to 64 x 64")

    def test_beside_a_float_model_that_is_missing(self, cli: Cli, tiny_onnx: Path, tmp_path: Path) -> None:
        refused(cli("build", tiny_onnx, "--float", tmp_path / "no.pt"), "build", "no.pt' does not exist")


class TestData:
    def test_that_is_missing(self, cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
        refused(cli("eval", tiny_model, "--data", tmp_path / "no.yaml"), "eval", "no.yaml' does not exist")

    def test_that_is_not_named(self, cli: Cli, tiny_model: Path) -> None:
        refused(cli("eval", tiny_model), "eval", "the data set is not named")
        refused(cli("compare", tiny_model), "compare", "the data set is not named")

    @pytest.mark.parametrize("content", ["", "- a\n- b\n", "{", "names: [a]\n", "val: 3\nnames: [a]\n", "\0\1\2"])
    def test_that_is_no_data_set(self, cli: Cli, tiny_model: Path, tmp_path: Path, content: str) -> None:
        (tmp_path / "d.yaml").write_text(content)
        refused(cli("eval", tiny_model, "--data", tmp_path / "d.yaml"), "eval", "d.yaml'")

    def test_that_is_empty(self, cli: Cli, tiny_model: Path, own: TinyData) -> None:
        shutil.rmtree(own.images)
        own.images.mkdir()
        refused(cli("eval", tiny_model, "--data", own.yaml), "eval", f"{own.images}' holds no images")

    def test_without_labels(self, cli: Cli, tiny_model: Path, own: TinyData) -> None:
        shutil.rmtree(own.yaml.parent / "labels")
        refused(cli("eval", tiny_model, "--data", own.yaml), "eval", "label")

    def test_with_other_names(self, cli: Cli, tiny_model: Path, own: TinyData) -> None:
        own.annotations.write_text(own.annotations.read_text().replace("disc", "coin"))
        pair = ("--images", own.images, "--annotations", own.annotations)
        calibration = ("--calib-images", 2, "--calib-images-dir", own.train)
        for command in ("eval", "compare", "calibrate"):
            ran = cli(command, tiny_model, *pair, *(calibration if command != "eval" else ()))
            refused(ran, command, "'disc'", "'coin'")

    def test_with_other_names_than_a_file_that_is_exported_or_built(
        self, cli: Cli, tiny_checkpoint: Path, tiny_onnx: Path, own: TinyData
    ) -> None:
        content = yaml.safe_load(own.yaml.read_text())
        own.yaml.write_text(yaml.safe_dump(content | {"names": ["coin", "box", "star", "more"]}))
        refused(cli("export", tiny_checkpoint, "--data", own.yaml), "export", "'disc'")
        refused(cli("build", tiny_onnx, "--data", own.yaml), "build", "'disc'")

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (("--data", "x" * 5000), "x', which cannot be reached (File name too long); expected a possible path"),
            (("--images", "x" * 5000, "--annotations", "{own}"), "--images is 'xxx"),
            (("--images", "{folder}", "--annotations", "x" * 5000), "--annotations is 'xxx"),
            (("--images", "{own}", "--annotations", "{own}"), "is no directory"),
            (("--images", "{folder}", "--annotations", "{folder}"), "cannot be read (Is a directory)"),
            (("--images", "{folder}", "--annotations", "/dev/zero"), "'/dev/zero' cannot be read (it is no regular"),
            (("--annotations", "{own}"), "the data set is annotations "),
            (("--data", "{folder}"), "cannot be read (Is a directory)"),
            (("--data", "{own}", "--images", "{folder}"), "the data set is data "),
        ],
        ids=range(9),
    )
    def test_that_is_named_wrongly(
        self, cli: Cli, tiny_model: Path, tiny_data: TinyData, arguments: tuple[str, ...], part: str
    ) -> None:
        places = {"own": tiny_data.annotations, "folder": tiny_data.images}
        refused(cli("eval", tiny_model, *(text.format(**places) for text in arguments)), "eval", part)

    @pytest.mark.parametrize(
        ("place", "part"),
        [
            ("x" * 5000, "x', which cannot be reached (File name too long); expected a possible path"),
            ("/dev/zero", "data set '/dev/zero' cannot be read (it is no regular file)"),
        ],
        ids=["long", "endless"],
    )
    def test_with_calibration_images_that_are_named_wrongly(
        self, cli: Cli, tiny_model: Path, place: str, part: str
    ) -> None:
        ran = cli("calibrate", tiny_model, "--no-eval", "--calib-images-dir", place, "--calib-images", 2)
        refused(ran, "calibrate", part)

    @pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"])
    def test_with_an_image_that_does_not_decode(
        self, cli: Cli, tiny_model: Path, own: TinyData, content: bytes
    ) -> None:
        (own.images / "001.png").write_bytes(content)
        refused(cli("eval", tiny_model, "--data", own.yaml), "eval", "001.png' does not decode")

    def test_with_a_calibration_image_that_does_not_decode(self, cli: Cli, tiny_model: Path, own: TinyData) -> None:
        (own.train / "003.png").write_bytes(b"no picture")
        ran = cli("calibrate", tiny_model, "--data", own.yaml, "--calib-images", 8)
        refused(ran, "calibrate", "003.png' does not decode")

    def test_as_a_pair_without_calibration_images(self, cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
        pair = ("--images", tiny_data.images, "--annotations", tiny_data.annotations)
        for command in ("compare", "calibrate"):
            refused(cli(command, tiny_model, *pair), command, "add --calib-images-dir DIR")

    def test_as_half_a_pair(self, cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
        ran = cli("eval", tiny_model, "--annotations", tiny_data.annotations)
        refused(ran, "eval", f"annotations {tiny_data.annotations}", "--images")

    def test_as_images_without_labels_and_nothing_to_compare_with(
        self, cli: Cli, tiny_model: Path, tiny_data: TinyData
    ) -> None:
        bare = ("eval", tiny_model, "--images", tiny_data.images)
        told = f"the images in '{tiny_data.images}' have no labels, which"
        refused(cli(*bare), "eval", f"{told} mAP needs", "--annotations FILE.json, or --reference FLOAT")
        refused(cli(*bare, "--reference", tiny_model, "--task-metrics"), "eval", f"{told} --task-metrics needs")

    def test_with_too_few_calibration_images(self, cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
        ran = cli("compare", tiny_model, "--data", tiny_data.yaml, "--calib-images", 9)
        refused(
            ran, "compare", "has 8 images to calibrate on and 9 were asked for", "ask for 8 or less with --calib-images"
        )

    def test_that_does_not_fill_a_batch_to_compare(self, cli: Cli, tiny_checkpoint: Path, own: TinyData) -> None:
        ran = cli("export", tiny_checkpoint, "--data", own.yaml, "--batch", 11)
        refused(ran, "export", "batch is 11 and the data set has 10 images")


class TestSetting:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (("--imgsz", 72), ("imgsz is 72", "stride 16", "64 or 80")),
            (("--imgsz", 0), ("imgsz is 0",)),
            (("--imgsz", -64), ("imgsz is -64",)),
            (("--batch", 0), ("batch is 0",)),
            (("--method", "kl"), ("'kl'", "entropy, mse, percentile")),
            (("--method", "percentile-0"), ("percentile is 0.0",)),
            (("--method", "percentile-x"), ("percentile is 'x'",)),
            (("--ignore", "model.0.cnov"), ("'model.0.cnov' matches no layer", "did you mean model.0.conv")),
            (("--ignore", "re:("), ("'re:('", "no regular expression")),
            (("--ignore", ""), ("ignore pattern is ''",)),
            (("--ignore", "model.*"), ("model.* leave no layer to quantize",)),
            (("--ignore", "@no/such.txt"), ("pattern file 'no/such.txt' cannot be read",)),
            (("--ignore", "@/dev/zero"), ("pattern file '/dev/zero' cannot be read (it has more than 1048576",)),
            (("--calib-images", 0), ("images is 0",)),
            (("--seed", -1), ("seed is -1",)),
            (("--bits", 99), ("bits is 99", "from 2 to 16")),
            (("--bits", 1), ("bits is 1",)),
            (("--sample", 0), ("sample is 0",)),
            (("--curve", "1,x"), ("curve is '1,x'", "--curve 1,2,4,8")),
            (("--curve", "1,3"), ("numbers of calibration images are 1, 3", "the 2 images")),
            (("--backend", "pytorch-quantization"), ("'pytorch_quantization' is not installed", "--backend")),
            (("--nms-iou", "nan"), ("--nms-iou is nan", "from 0 to 1")),
            (("--nms-iou", 1.5), ("--nms-iou is 1.5", "from 0 to 1")),
            (("--device", 7), ("device is '7'",)),
            (("--device", "tpu"), ("device is 'tpu'",)),
            (("--threads", 0), ("threads is 0",)),
            (("--threads", -2), ("threads is -2",)),
        ],
        ids=lambda value: "_".join(map(str, value)) if len(value) == 2 and value[0][:2] == "--" else "",
    )
    def test_of_calibrate(
        self, cli: Cli, tiny_model: Path, tiny_data: TinyData, arguments: tuple[object, ...], parts: tuple[str, ...]
    ) -> None:
        enough = () if arguments[0] == "--calib-images" else ("--calib-images", 2)
        ran = cli("calibrate", tiny_model, "--data", tiny_data.yaml, *enough, *arguments)
        refused(ran, "calibrate", *parts)

    @pytest.mark.parametrize("methods", ["", "max,", "max,kl", "percentile-101"])
    def test_of_compare(self, cli: Cli, tiny_model: Path, tiny_data: TinyData, methods: str) -> None:
        refused(cli("compare", tiny_model, "--data", tiny_data.yaml, "--methods", methods), "compare", "expected")

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (("--imgsz", 72), "imgsz is 72"),
            (("--imgsz", 0), "imgsz is 0"),
            (("--batch", 0), "batch is 0"),
            (("--rounds", 0), "rounds is 0"),
            (("--warmup", -1), "warmup is -1"),
        ],
    )
    def test_of_bench(self, cli: Cli, tiny_model: Path, arguments: tuple[object, ...], part: str) -> None:
        refused(cli("bench", tiny_model, *arguments), "bench", part)

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [
            (("--imgsz", 72), "imgsz is 72"),
            (("--imgsz", 0), "imgsz is 0"),
            (("--batch", 0), "batch is 0"),
            (("--opset", 7), "opset is 7"),
            (("--rect",), "rectangular"),
        ],
    )
    def test_of_export(
        self, cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, arguments: tuple[object, ...], part: str
    ) -> None:
        refused(cli("export", tiny_checkpoint, "--data", tiny_data.yaml, *arguments), "export", part)

    @pytest.mark.parametrize("imgsz", [72, 0, 31])
    def test_of_eval(self, cli: Cli, tiny_model: Path, tiny_data: TinyData, imgsz: int) -> None:
        refused(cli("eval", tiny_model, "--data", tiny_data.yaml, "--imgsz", imgsz), "eval", f"imgsz is {imgsz}")

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "evaluate m.pt",
            "eval",
            "eval m.pt --imgsz large",
            "eval m.pt --no-such-option",
            "build m.onnx --engine dreams",
            "eval m.pt --json file",
            "bench",
        ],
    )
    def test_that_does_not_parse(self, cli: Cli, line: str) -> None:
        ran = cli(*line.split())
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.err.strip().splitlines()) == 1
        assert re.match(r"yoloqat.*: .*; see yoloqat.* --help$", ran.err.strip())


class TestOutput:
    def test_directory_that_is_a_file(self, cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("kept")
        ran = cli("bench", tiny_model, "--rounds", 1, out=tmp_path / "file")
        refused(ran, "bench", "file' is a file", "--out")
        below = cli("bench", tiny_model, "--rounds", 1, out=tmp_path / "file" / "deep")
        refused(below, "bench", "file' is a file")
        assert (tmp_path / "file").read_text() == "kept"

    def test_directory_of_a_name_that_is_too_long(self, cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
        ran = cli("bench", tiny_model, "--rounds", 1, out=tmp_path / ("x" * 5000))
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert "x', which cannot be reached (File name too long); expected a possible path" in ran.err

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that even root cannot write to")
    def test_directory_that_cannot_be_written_to(self, cli: Cli, tiny_model: Path) -> None:
        ran = cli("bench", tiny_model, "--rounds", 1, out=Path("/proc/self/yoloqat"))
        assert ran.code == 2
        assert "cannot write" in ran.err.strip().splitlines()[-1]
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize("command", ["eval", "calibrate", "export", "build", "bench"])
    def test_disk_that_is_full(
        self,
        cli: Cli,
        tiny_model: Path,
        tiny_checkpoint: Path,
        tiny_onnx: Path,
        tiny_data: TinyData,
        monkeypatch: pytest.MonkeyPatch,
        command: str,
    ) -> None:
        arguments: dict[str, tuple[object, ...]] = {
            "eval": (tiny_model, "--data", tiny_data.yaml),
            "calibrate": (tiny_model, "--calib-images-dir", tiny_data.train, "--calib-images", 2, "--method", "max"),
            "export": (tiny_checkpoint,),
            "build": (tiny_onnx,),
            "bench": (tiny_model, "--rounds", 1),
        }

        def full(source: object, target: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "replace", full)
        ran = cli(command, *arguments[command])
        last = ran.err.strip().splitlines()[-1]
        assert (ran.code, ran.out) == (2, "")
        assert last.startswith(f"yoloqat {command}: cannot write '{ran.directory}")
        assert "(No space left on device)" in last
        assert "Traceback" not in ran.err
        left = [name for name in ran.files if (ran.directory / name).is_file()]
        assert left == []

    def test_result_of_before_stays_when_the_next_run_fails(
        self, cli: Cli, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = cli("bench", tiny_model, "--rounds", 1).result
        assert cli("bench", tiny_model, "--rounds", 0).code == 2
        monkeypatch.setattr(os, "replace", lambda source, target: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        ran = cli("bench", tiny_model, "--rounds", 1)
        assert (ran.code, ran.result, ran.files) == (2, before, ["report.html", "result.json"])


def test_debug_shows_where_an_error_came_from(cli: Cli, tmp_path: Path) -> None:
    plain = cli("bench", tmp_path / "absent.pt")
    shown = cli("bench", tmp_path / "absent.pt", "--debug")
    assert (plain.code, shown.code) == (2, 2)
    assert "Traceback (most recent call last)" in shown.err
    assert "Traceback" not in plain.err
    assert shown.err.strip().splitlines()[-1] == plain.err.strip()


def test_values_that_are_not_finite_name_the_layer_and_the_images(
    cli: Cli, tiny_data: TinyData, tmp_path: Path
) -> None:
    module = make_module()
    with torch.no_grad():
        module.model[1].bn.bias[0] = float("nan")
    path = save_module(module, tmp_path / "broken.pt")
    ran = cli("calibrate", path, "--data", tiny_data.yaml, "--calib-images", 2, "--no-eval")
    refused(ran, "calibrate", "'model.", "NaN", ".png")
