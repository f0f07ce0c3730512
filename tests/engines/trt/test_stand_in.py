"""The stand-ins refuse what the real packages lack; else the tests that lean on them would prove nothing."""

from __future__ import annotations

import pytest
from stand_in import VERSIONS, make_tensorrt
from stand_in_cuda import FakeCuda
from stand_in_surface import parameters


@pytest.fixture
def config(trt):
    return trt.Builder(recorder(trt)).create_builder_config()


def recorder(trt):
    class Silent(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, msg):
            pass

    return Silent()


def test_versions_are_told(trt):
    assert trt.__version__ in VERSIONS.values()


def test_unknown_names_are_refused(trt, config):
    with pytest.raises(AttributeError, match="has no 'IBuilder'"):
        trt.IBuilder  # noqa: B018
    with pytest.raises(AttributeError, match="build_engine"):
        trt.Builder(recorder(trt)).build_engine  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'max_workspace_size'"):
        config.max_workspace_size = 1
    with pytest.raises(AttributeError, match="EXACT"):
        trt.ProfilingVerbosity.EXACT  # noqa: B018


def test_what_11_removed_is_there_in_10_alone(world):
    ten, eleven = make_tensorrt(10, world), make_tensorrt(11, world)
    for owner, member in (
        ("BuilderFlag", "INT8"),
        ("BuilderFlag", "FP16"),
        ("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS"),
        ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("Builder", "platform_has_fast_int8"),
        ("ICudaEngine", "device_memory_size"),
        ("OnnxParser", "supports_model"),
    ):
        assert hasattr(getattr(ten, owner), member)
        with pytest.raises(AttributeError, match=member):
            getattr(getattr(eleven, owner), member)


def test_arguments_are_counted_and_named(trt, config):
    with pytest.raises(TypeError, match="takes 1 arguments, not 2"):
        config.set_flag(trt.BuilderFlag.DEBUG, True)
    with pytest.raises(TypeError, match=r"set_flag lacks \['flag'\]"):
        config.set_flag()
    with pytest.raises(TypeError, match="no argument 'value' left"):
        config.set_flag(trt.BuilderFlag.DEBUG, value=True)
    with pytest.raises(TypeError, match="No constructor defined"):
        trt.IBuilderConfig()


def test_types_are_checked(trt, config):
    with pytest.raises(TypeError, match="is no BuilderFlag"):
        config.set_flag(3)
    with pytest.raises(TypeError, match="is no SupportsInt"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1.5)
    with pytest.raises(TypeError, match="is no ProfilingVerbosity"):
        config.profiling_verbosity = "DETAILED"
    with pytest.raises(TypeError, match="is no Dims"):
        trt.Builder(recorder(trt)).create_optimization_profile().set_shape("images", 1, 2, 3)
    with pytest.raises(TypeError, match="'<' not supported"):
        trt.ILogger.ERROR < trt.ILogger.WARNING  # noqa: B015


def test_read_only_properties_stay(trt):
    with pytest.raises(AttributeError, match="no setter"):
        trt.Builder(recorder(trt)).num_DLA_cores = 3


def test_a_subclass_must_start_its_base(trt):
    class Forgetful(trt.ILogger):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match="is no ILogger"):
        trt.Builder(Forgetful())


def test_weak_typing_is_refused(trt):
    with pytest.raises(AssertionError, match="not strongly typed"):
        trt.Builder(recorder(trt)).create_network()


def test_what_is_not_simulated_is_said(trt, config):
    with pytest.raises(NotImplementedError, match=r"IBuilderConfig\.reset is real, but not simulated"):
        config.reset()
    with pytest.raises(NotImplementedError, match="its overloads are not known"):
        trt.new("ICudaEngine").get_tensor_format("images")


def test_only_real_names_can_be_simulated(trt):
    with pytest.raises(AttributeError, match=r"no 'Builder\.build_engine' to simulate"):
        trt.handle({"Builder.build_engine": print})


def test_signatures_are_read_as_pybind11_writes_them():
    text = "f(self: A, x: tuple[bool, list[int]], y: B = <B.C: 0>, z: typing.SupportsInt = 0) -> tuple[int, int]"
    assert [(p.name, p.type, p.optional) for p in parameters(text)] == [
        ("x", "tuple[bool, list[int]]", False),
        ("y", "B", True),
        ("z", "typing.SupportsInt", True),
    ]


def test_cuda_knows_real_functions_alone():
    cuda = FakeCuda()
    with pytest.raises(AttributeError, match="has no 'cudaAlloc'"):
        cuda.cudaAlloc(1)
    with pytest.raises(TypeError, match="takes 1 arguments, not 2"):
        cuda.cudaMalloc(1, 2)
    with pytest.raises(NotImplementedError, match="cudaMemset is real"):
        cuda.cudaMemset(1, 2, 3)
    error, stream = cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)
    assert error == cuda.cudaError_t.cudaSuccess
    kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
    with pytest.raises(AssertionError, match="not in live memory"):
        cuda.cudaMemcpyAsync(1, 2, 3, kind, stream)
