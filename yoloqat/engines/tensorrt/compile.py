"""The steps from an ONNX file to a serialised plan, by TensorRT's own API.

What is called here exists alike in TensorRT 10.12 and 11: networks are strongly typed, so that the precision of every
layer comes from the file, and no flag of the builder chooses one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yoloqat.engines.tensorrt.logs import hint_of, said
from yoloqat.engines.tensorrt.monitor import make_monitor
from yoloqat.engines.tensorrt.options import TensorRTOptions
from yoloqat.engines.tensorrt.profile import InputProfile
from yoloqat.errors import EngineError, ModelError
from yoloqat.progress import Progress

_NO_GPU = "check that `nvidia-smi` shows the GPU and that its driver is as new as TensorRT's CUDA"


def started(make: Any, recorder: Any, what: str) -> Any:
    """Return what ``make`` makes of TensorRT, which fails where there is no GPU.

    Args:
        make: `tensorrt.Builder` or `tensorrt.Runtime`.
        recorder: The logger.
        what: Names it in errors.

    Raises:
        EngineError: It does not start.
    """
    try:
        return make(recorder)
    except (TypeError, RuntimeError) as error:  # TensorRT's bindings report a null pointer as a TypeError
        raise EngineError(
            f"TensorRT's {what} does not start ({said(recorder)}; {error})", expected="a CUDA device", hint=_NO_GPU
        ) from error


def parse(trt: Any, builder: Any, recorder: Any, path: Path) -> tuple[Any, Any]:
    """Return the strongly typed network of an ONNX file, and the parser, which owns the weights and must outlive it.

    Raises:
        ModelError: TensorRT cannot parse it; every error is named, with its node.
    """
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, recorder)
    if not parser.parse(path.read_bytes(), path=str(path)):  # the path leads to weights kept in files of their own
        errors = [_told(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ModelError(
            f"TensorRT {trt.__version__} cannot parse '{path}' ({'; '.join(errors) or said(recorder)})",
            expected="operators and types that TensorRT has",
            hint="export with another opset, or leave the named layer float with `ignore`",
        )
    return network, parser


def _told(error: Any) -> str:
    name = error.node_name() or (f"number {error.node()}" if error.node() >= 0 else "")
    where = f"node '{name}' ({error.node_operator()}): " if name else ""
    return f"{where}{error.desc()}"


def configure(trt: Any, builder: Any, profile: InputProfile, options: TensorRTOptions) -> Any:
    """Return a builder's configuration.

    Raises:
        EngineError: There is no such deep learning accelerator, or TensorRT refuses the profile.
    """
    config = builder.create_builder_config()
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector tells no precisions
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.dla is not None:
        _use_dla(trt, builder, config, options.dla)
    if profile.dynamic:
        shapes = builder.create_optimization_profile()
        shapes.set_shape(profile.name, profile.low, profile.usual, profile.high)
        if config.add_optimization_profile(shapes) < 0:
            raise EngineError(
                f"TensorRT refuses the profile {profile.low} to {profile.high} of '{profile.name}'",
                expected="shapes that the file allows",
                hint="choose others with `TensorRTOptions.batch` or `TensorRTOptions.imgsz`",
            )
    return config


def _use_dla(trt: Any, builder: Any, config: Any, core: int) -> None:
    if core >= builder.num_DLA_cores:
        raise EngineError(
            f"dla is {core}, this device has {builder.num_DLA_cores} deep learning accelerators",
            expected="the index of one, as Jetson Orin has",
            hint="build without `dla`",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def serialise(trt: Any, builder: Any, network: Any, config: Any, *, recorder: Any, progress: Progress) -> Any:
    """Build the network and return the plan as `IHostMemory`.

    Raises:
        EngineError: TensorRT builds none; the message holds its log.
        KeyboardInterrupt: The user interrupted the build.
    """
    monitor = make_monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if plan is None:
        raise EngineError(
            f"TensorRT {trt.__version__} built no engine ({said(recorder)})",
            expected="a network that the device can run",
            hint=hint_of(recorder.errors),
        )
    return plan
