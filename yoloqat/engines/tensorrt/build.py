"""An ONNX file to a TensorRT engine; needs no torch, so that it runs where the engine will."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from yoloqat.engines.built_in_conf import onnx_conf
from yoloqat.engines.model_info import model_info
from yoloqat.engines.tensorrt.compile import configure, parse, serialise, started
from yoloqat.engines.tensorrt.cuda import use_device
from yoloqat.engines.tensorrt.header import engine_metadata, write_engine
from yoloqat.engines.tensorrt.inspector import EngineLayers, engine_layers
from yoloqat.engines.tensorrt.load import load_cuda, load_tensorrt
from yoloqat.engines.tensorrt.logs import hint_of, make_recorder, said
from yoloqat.engines.tensorrt.options import TensorRTOptions
from yoloqat.engines.tensorrt.profile import InputProfile, input_profile
from yoloqat.engines.tensorrt.timing import keep_timing_cache, use_timing_cache
from yoloqat.engines.tensorrt.trtexec import trtexec_lines
from yoloqat.engines.zero_points import check_tensorrt
from yoloqat.errors import EngineError
from yoloqat.onnx_graph.file import input_shape, inputs_of, load_onnx, properties, quantized_layers
from yoloqat.onnx_graph.macs import convolution_macs, with_input_shape
from yoloqat.progress import Progress, silent
from yoloqat.provenance import file_sha256


@dataclass(frozen=True)
class TensorRTBuild:
    """What was built.

    Attributes:
        layers: What the engine runs in which precision, by its own inspector.
        version: Version of TensorRT.
        trtexec: The command line that builds the same plan, by major version of TensorRT.
        profile: The shapes the engine takes.
        warnings: What TensorRT warned of.
        from_timing_cache: Whether a kept timing cache was used.
    """

    layers: EngineLayers
    version: str
    trtexec: dict[str, str]
    profile: InputProfile
    warnings: tuple[str, ...]
    from_timing_cache: bool


@dataclass(frozen=True, eq=False)
class TensorRTPlan:
    """What is known before TensorRT is asked.

    Attributes:
        source: The ONNX graph.
        profile: The shapes the engine will take.
        trtexec: The command line that builds the same plan, by major version of TensorRT.
    """

    source: onnx.ModelProto
    profile: InputProfile
    trtexec: dict[str, str]


def plan_tensorrt(onnx_path: Path, engine_path: Path, options: TensorRTOptions) -> TensorRTPlan:
    """Read the file and check the settings against it; needs no TensorRT.

    Args:
        onnx_path: The ONNX file, with Ultralytics' metadata.
        engine_path: Where the engine will be.
        options: How to build.

    Raises:
        ModelError: The file is missing, no ONNX, or lacks metadata.
        ConfigError: The settings do not fit the file.
        EngineError: A zero-point in it is not 0.
    """
    source = load_onnx(onnx_path)
    check_tensorrt(onnx_path)
    shape = input_shape(source)
    info = model_info(str(onnx_path), properties(source), shape)
    profile = input_profile(inputs_of(source)[0].name, shape, options, stride=info.stride, source=str(onnx_path))
    return TensorRTPlan(source, profile, trtexec_lines(onnx_path, engine_path.with_suffix(".plan"), profile, options))


def build_tensorrt(
    onnx_path: Path,
    engine_path: Path,
    options: TensorRTOptions | None = None,
    *,
    progress: Progress = silent,
    device: int = 0,
    tensorrt: Any = None,
    cuda: Any = None,
) -> TensorRTBuild:
    """Build an engine from an ONNX file; what it quantizes becomes INT8, what it types as FP16 becomes FP16.

    Args:
        onnx_path: The ONNX file, with Ultralytics' metadata.
        engine_path: The engine to write, with the header by which `YOLO("model.engine")` loads it.
        options: How to build; None for TensorRT's own defaults.
        progress: Told of TensorRT's phases.
        device: Index of the CUDA device; any other than the first needs CUDA's Python bindings.
        tensorrt: The module ``tensorrt``; None imports it.
        cuda: The module ``cuda.bindings.runtime``; None imports it where it is needed.

    Raises:
        DependencyError: TensorRT is not installed or too old.
        ModelError: The file is missing, no ONNX, lacks metadata, or TensorRT cannot parse it.
        ConfigError: The settings do not fit the file.
        EngineError: A zero-point in the file is not 0, there is no GPU, or TensorRT builds no engine.
        OutputError: The engine or the timing cache cannot be written.
    """
    options = options or TensorRTOptions()
    onnx_path, engine_path = Path(onnx_path), Path(engine_path)
    plan = plan_tensorrt(onnx_path, engine_path, options)
    trt = load_tensorrt() if tensorrt is None else tensorrt
    if device:
        use_device(load_cuda() if cuda is None else cuda, device)
    recorder = make_recorder(trt)
    builder = started(trt.Builder, recorder, "builder")
    network, parser = parse(trt, builder, recorder, onnx_path)
    config = configure(trt, builder, plan.profile, options)
    cached = options.timing_cache is not None and use_timing_cache(config, options.timing_cache)
    serialised = serialise(trt, builder, network, config, recorder=recorder, progress=progress)
    del parser  # not before: it owns the weights
    if options.timing_cache is not None:
        keep_timing_cache(config, options.timing_cache)
    macs = convolution_macs(with_input_shape(plan.source, plan.profile.name, plan.profile.usual))
    quantized = quantized_layers(plan.source)
    own = {
        "tensorrt": str(trt.__version__),
        "profile": asdict(plan.profile),
        "convolutions": macs,
        "quantized_layers": quantized,
        "version_compatible": options.version_compatible,
        "source_sha256": file_sha256(onnx_path),
    }
    metadata = engine_metadata(
        properties(plan.source),
        dynamic=plan.profile.dynamic,
        dla=options.dla,
        own=own,
        conf=onnx_conf(plan.source),
    )
    engine = load_plan(trt, serialised, recorder, dla=options.dla, host_code=options.version_compatible)
    layers = engine_layers(inspect(trt, engine, plan.profile), macs, quantized)
    write_engine(engine_path, metadata, memoryview(serialised))
    return TensorRTBuild(
        layers, str(trt.__version__), plan.trtexec, plan.profile, tuple(recorder.warnings), from_timing_cache=cached
    )


def load_plan(trt: Any, plan: Any, recorder: Any, *, dla: int | None, host_code: bool) -> Any:
    """Return the `ICudaEngine` of a serialised plan.

    Args:
        trt: The module ``tensorrt``.
        plan: The plan, anything with a buffer.
        recorder: The logger.
        dla: Index of the accelerator it was built for.
        host_code: Whether the plan may run code of its own on the processor, as a version-compatible one must.

    Raises:
        EngineError: TensorRT cannot load it, e.g. because it was built on another GPU or by another version.
    """
    runtime = started(trt.Runtime, recorder, "runtime")
    if dla is not None:
        runtime.DLA_core = dla
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"TensorRT {trt.__version__} cannot load the engine ({said(recorder)})",
            expected="an engine built by this version for this GPU",
            hint=hint_of(recorder.errors) if recorder.errors else "build it on this machine anew",
        )
    return engine


def inspect(trt: Any, engine: Any, profile: InputProfile | None) -> str:
    """Return the inspector's JSON of an engine.

    Args:
        trt: The module ``tensorrt``.
        engine: The `ICudaEngine`.
        profile: The shapes it takes: with an open shape, TensorRT tells types only where a shape is set.
    """
    inspector = engine.create_engine_inspector()
    if profile is not None and profile.dynamic:
        context = engine.create_execution_context()
        if context is not None and context.set_input_shape(profile.name, profile.usual):
            inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
