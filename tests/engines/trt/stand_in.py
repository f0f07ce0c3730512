"""A stand-in for ``tensorrt``: the real names of one version, and enough behaviour to build and to run an engine.

The network is the ONNX graph, the plan carries it, and running an engine runs the graph with ONNX Runtime on memory of
the stand-in for CUDA; so numbers that come out at the end were really computed from the file that went in.
"""

from __future__ import annotations

import base64
import ctypes
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from stand_in_cuda import FakeCuda
from stand_in_surface import Surface

from yoloqat.onnx_graph.file import input_shape, quantized_layers

GOLDEN = Path(__file__).parents[2] / "golden"
VERSIONS = {10: "10.16.1.11", 11: "11.4.0.106"}
STRONGLY_TYPED = {10: 1, 11: 0}  # as the real wheels number it; 0 is EXPLICIT_BATCH in 10


@dataclass
class World:
    """What happens around the builder.

    Attributes:
        gpu: Whether there is one.
        dla_cores: Deep learning accelerators.
        parse_errors: (node name, operator, description, node index) of each error that the parser finds.
        build_errors: What the builder logs before it builds nothing.
        cache_fits: Whether a kept timing cache fits the device.
        capturable: Whether an engine may run inside a capture.
        memory: Whether there is enough for an execution context.
        seen: What was asked of the builder.
    """

    gpu: bool = True
    dla_cores: int = 0
    parse_errors: list[tuple[str, str, str, int]] = field(default_factory=list)
    build_errors: list[str] = field(default_factory=list)
    cache_fits: bool = True
    capturable: bool = True
    memory: bool = True
    profile_fits: bool = True
    runs: bool = True
    cuda: FakeCuda = field(default_factory=FakeCuda)
    seen: SimpleNamespace = field(default_factory=SimpleNamespace)


def load_api(major: int) -> dict[str, Any]:
    """Return the golden surface of a major version."""
    return dict(json.loads((GOLDEN / f"tensorrt_api_{VERSIONS[major]}.json").read_text())["api"])


def make_tensorrt(major: int, world: World) -> Any:
    """Return the stand-in for a major version of ``tensorrt``."""
    values = {"NetworkDefinitionCreationFlag.STRONGLY_TYPED": STRONGLY_TYPED[major]}
    trt = Surface("tensorrt", load_api(major), VERSIONS[major], values)
    trt.handle(Simulation(trt, major, world).handlers())
    return trt


class Simulation:
    """What real calls do here."""

    def __init__(self, trt: Any, major: int, world: World) -> None:
        self.trt, self.major, self.world = trt, major, world

    def handlers(self) -> dict[str, Any]:
        own = {name.replace("__", "."): getattr(self, name) for name in dir(self) if name[0].isupper()}
        return own | {"nptype": self.nptype}

    def nptype(self, kind: Any) -> Any:
        types = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64}
        if kind.name not in types:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return types[kind.name]

    def log(self, logger: Any, severity: str, text: str) -> None:
        logger.log(self.trt.ILogger.Severity[severity], text)

    # builder

    def _need_gpu(self, this: Any) -> None:
        if not self.world.gpu:
            self.log(this._state["logger"], "ERROR", "CUDA initialization failure with error: 100")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    Builder = Runtime = _need_gpu

    def Builder__num_DLA_cores(self, this: Any) -> int:
        return self.world.dla_cores

    def Builder__create_network(self, this: Any, flags: int = 0) -> Any:
        assert flags == 1 << STRONGLY_TYPED[self.major], "the network is not strongly typed"
        return self.trt.new("INetworkDefinition", onnx=None)

    def Builder__create_builder_config(self, this: Any) -> Any:
        self.world.seen.config = config = self.trt.new("IBuilderConfig", pools={}, flags=set(), profiles=[], cache=None)
        return config

    def Builder__create_optimization_profile(self, this: Any) -> Any:
        return self.trt.new("IOptimizationProfile", shapes={})

    def IOptimizationProfile__set_shape(self, this: Any, **shapes: Any) -> None:
        this._state["shapes"][shapes["input"]] = [list(shapes[end]) for end in ("min", "opt", "max")]

    def IBuilderConfig__add_optimization_profile(self, this: Any, profile: Any) -> int:
        if not self.world.profile_fits:
            return -1
        this._state["profiles"].append(profile._state["shapes"])
        return len(this._state["profiles"]) - 1

    def IBuilderConfig__set_flag(self, this: Any, flag: Any) -> None:
        this._state["flags"].add(flag.name)

    def IBuilderConfig__set_memory_pool_limit(self, this: Any, pool: Any, pool_size: int) -> None:
        this._state["pools"][pool.name] = pool_size

    def IBuilderConfig__create_timing_cache(self, this: Any, serialized_timing_cache: bytes) -> Any:
        if serialized_timing_cache and not bytes(serialized_timing_cache).startswith(b"timings"):
            return None
        return self.trt.new("ITimingCache", data=bytes(serialized_timing_cache))

    def IBuilderConfig__set_timing_cache(self, this: Any, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._state["data"] and not self.world.cache_fits and not ignore_mismatch:
            return False
        this._state["cache"] = cache
        return True

    def IBuilderConfig__get_timing_cache(self, this: Any) -> Any:
        return this._state["cache"]

    def ITimingCache__serialize(self, this: Any) -> Any:
        return self.trt.IHostMemory(this._state["data"] or b"timings of this build")

    def OnnxParser__parse(self, this: Any, model: bytes, path: str | None = None) -> bool:
        assert path is not None
        assert Path(path).is_file()
        if self.world.parse_errors:
            return False
        this._state["network"]._state["onnx"] = bytes(model)
        return True

    def OnnxParser__num_errors(self, this: Any) -> int:
        return len(self.world.parse_errors)

    def OnnxParser__get_error(self, this: Any, index: int) -> Any:
        return self.trt.new("ParserError", entry=self.world.parse_errors[index])

    def ParserError__node_name(self, this: Any) -> str:
        return str(this._state["entry"][0])

    def ParserError__node_operator(self, this: Any) -> str:
        return str(this._state["entry"][1])

    def ParserError__desc(self, this: Any) -> str:
        return str(this._state["entry"][2])

    def ParserError__node(self, this: Any) -> int:
        return int(this._state["entry"][3])

    def Builder__build_serialized_network(self, this: Any, network: Any, config: Any) -> Any:
        state, logger = config._state, this._state["logger"]
        self.log(logger, "WARNING", "a warning of the builder")
        self.log(logger, "VERBOSE", "much else")
        if not self._progressed(state["progress_monitor"]):
            self.log(logger, "ERROR", "the build was cancelled")
            return None
        open_shape = None in input_shape(onnx.load_from_string(network._state["onnx"]))
        errors = list(self.world.build_errors)
        if open_shape and not state["profiles"]:
            errors.append("Network has dynamic or shape inputs, but no optimization profile has been defined.")
        for text in errors:
            self.log(logger, "ERROR", text)
        if errors:
            return None
        plan = {
            "onnx": base64.b64encode(network._state["onnx"]).decode(),
            "profiles": state["profiles"],
            "detailed": state.get("profiling_verbosity") == self.trt.ProfilingVerbosity.DETAILED,
            "compatible": "VERSION_COMPATIBLE" in state["flags"],
            "dla": state.get("DLA_core"),
        }
        return self.trt.IHostMemory(b"plan%02d" % self.major + zlib.compress(json.dumps(plan).encode()))

    def _progressed(self, monitor: Any) -> bool:
        monitor.phase_start("Building Engine", None, 2)
        monitor.phase_start("Timing graph nodes", "Building Engine", 3)
        going = not [step for step in range(3) if not monitor.step_complete("Timing graph nodes", step)]
        monitor.phase_finish("Timing graph nodes")
        going = going and monitor.step_complete("Building Engine", 0)
        monitor.phase_finish("Building Engine")
        return bool(going)

    # runtime

    def Runtime__deserialize_cuda_engine(self, this: Any, serialized_engine: Any) -> Any:
        data, logger = bytes(serialized_engine), this._state["logger"]
        if not data.startswith(b"plan"):
            self.log(logger, "ERROR", "the engine plan file is not readable: magic tag does not match")
            return None
        plan = json.loads(zlib.decompress(data[6:]))
        if int(data[4:6]) != self.major and not (plan["compatible"] and this._state.get("engine_host_code_allowed")):
            self.log(logger, "ERROR", "the engine plan file is not compatible with this version of TensorRT")
            return None
        assert this._state.get("DLA_core") == plan["dla"], "the runtime was not told which accelerator"
        model = onnx.load_from_string(base64.b64decode(plan["onnx"]))
        return self.trt.new("ICudaEngine", model=model, plan=plan, logger=logger)

    def _names(self, engine: Any) -> list[str]:
        graph = engine._state["model"].graph
        return [graph.input[0].name, *(value.name for value in graph.output)]

    def ICudaEngine__num_io_tensors(self, this: Any) -> int:
        return len(self._names(this))

    def ICudaEngine__get_tensor_name(self, this: Any, index: int) -> str:
        return self._names(this)[index]

    def ICudaEngine__get_tensor_mode(self, this: Any, name: str) -> Any:
        return self.trt.TensorIOMode["INPUT" if name == self._names(this)[0] else "OUTPUT"]

    def ICudaEngine__get_tensor_dtype(self, this: Any, name: str) -> Any:
        graph = this._state["model"].graph
        value = next(value for value in (*graph.input, *graph.output) if value.name == name)
        kinds = {1: "FLOAT", 10: "HALF", 16: "BF16", 6: "INT32", 7: "INT64"}
        return self.trt.DataType[kinds[value.type.tensor_type.elem_type]]

    def ICudaEngine__get_tensor_profile_shape(self, this: Any, name: str, profile_index: int) -> list[Any]:
        assert profile_index == 0
        profiles = this._state["plan"]["profiles"]
        return profiles[0][name] if profiles else [list(input_shape(this._state["model"]))] * 3

    def ICudaEngine__create_execution_context(self, this: Any, strategy: Any = None) -> Any:
        if not self.world.memory:
            self.log(this._state["logger"], "ERROR", "Error Code 2: OutOfMemory (Requested size was 1 bytes.)")
            return None
        return self.trt.new("IExecutionContext", engine=this, addresses={}, shape=None, ran=set())

    def IExecutionContext__set_input_shape(self, this: Any, name: str, shape: Any) -> bool:
        low, _, high = self.ICudaEngine__get_tensor_profile_shape(this._state["engine"], name, 0)
        fits = all(least <= side <= most for least, side, most in zip(low, shape, high, strict=True))
        this._state["shape"] = tuple(shape) if fits else this._state["shape"]
        return fits

    def IExecutionContext__get_tensor_shape(self, this: Any, name: str) -> tuple[int, ...]:
        return tuple(self._run(this, np.zeros(this._state["shape"], np.float32))[name].shape)

    def IExecutionContext__set_tensor_address(self, this: Any, name: str, memory: int) -> bool:
        this._state["addresses"][name] = memory
        return True

    def _run(self, context: Any, images: Any) -> dict[str, Any]:
        model = context._state["engine"]._state["model"]
        session = context._state.get("session")
        if session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
            context._state["session"] = session
        feed = session.get_inputs()[0]
        kind = np.float16 if "float16" in feed.type else np.float32
        names = [value.name for value in model.graph.output]
        return dict(zip(names, session.run(None, {feed.name: images.astype(kind)}), strict=True))

    def IExecutionContext__execute_async_v3(self, this: Any, stream_handle: int) -> bool:
        state, cuda = this._state, self.world.cuda
        shape, capturing = state["shape"], cuda.handles[stream_handle].capturing
        if not self.world.runs or (capturing and (not self.world.capturable or shape not in state["ran"])):
            self.log(state["engine"]._state["logger"], "ERROR", "operation not permitted when stream is capturing")
            return False
        source, *outputs = self._names(state["engine"])
        kind = self.nptype(self.ICudaEngine__get_tensor_dtype(state["engine"], source))

        def work() -> None:
            images = _memory(cuda, state["addresses"][source], shape, kind)
            for name, value in self._run(this, images).items():
                _memory(cuda, state["addresses"][name], value.shape, value.dtype)[...] = value

        cuda.queue(stream_handle, work)
        state["ran"].add(shape)
        assert set(state["addresses"]) == {source, *outputs}
        return True

    # inspector

    def ICudaEngine__create_engine_inspector(self, this: Any) -> Any:
        return self.trt.new("EngineInspector", engine=this)

    def EngineInspector__get_engine_information(self, this: Any, format: Any) -> str:  # noqa: A002 - its real name
        assert format == self.trt.LayerInformationFormat.JSON
        plan, model = this._state["engine"]._state["plan"], this._state["engine"]._state["model"]
        known = not plan["profiles"] or this._state.get("execution_context") is not None
        return json.dumps(inspection(model, self.major, detailed=plan["detailed"], known=known))


def _memory(cuda: FakeCuda, address: int, shape: tuple[int, ...], kind: Any) -> Any:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    cuda.view(address, size, "device")
    return np.frombuffer((ctypes.c_byte * size).from_address(address), dtype=kind).reshape(shape)


def inspection(model: onnx.ModelProto, major: int, *, detailed: bool = True, known: bool = True) -> dict[str, Any]:
    """Return the inspector's document of a version: a reformat, then every convolution with what it was fused with."""
    quantized = set(quantized_layers(model))

    def tensor(name: str, kind: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"Name": name, "Location": "Device", "Dimensions": [1, 3, 16, 16]}
        if known:
            split = {"Format": "Thirty-two wide channel vectorized", "DataType": kind}
            entry |= {"Format/Datatype": f"Row major {kind} format"} if major == 10 else split
        return entry

    layers: list[Any] = [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to first",
            "LayerType": "Reformat",
            "Inputs": [tensor("images", "Float")],
            "Outputs": [tensor("images'", "Int8" if quantized else "Float")],
            "TacticName": "",
            "Metadata": "",
        }
    ]
    for node in (node for node in model.graph.node if node.op_type == "Conv"):
        kind = "Int8" if node.name in quantized else "Half"
        layers.append(
            {
                "Name": f"{node.name}.weight + {node.name}/dq + {node.name}",
                "LayerType": "CaskConvolution",
                "Inputs": [tensor(node.input[0], kind)],
                "Outputs": [tensor(node.output[0], kind)],
                "ParameterType": "Convolution",
                "TacticName": "sm80_xmma_fprop_implicit_gemm_tactic",
                "Metadata": f"[ONNX Layer: {node.name}/dq]\x1e[ONNX Layer: {node.name}]",
            }
        )
    shown = layers if detailed else [layer["Name"] for layer in layers]
    names = [model.graph.input[0].name, *(value.name for value in model.graph.output)]
    if major == 10:
        return {"Layers": shown, "Bindings": names}
    return {"Layers": shown, "I/O Tensors": [{"Name": name, "DataType": "Float"} for name in names]}
