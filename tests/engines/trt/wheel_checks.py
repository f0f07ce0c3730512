"""Run in a process of its own with the real bindings over empty libraries; tells the name of each check that held."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt as trt
from stand_in import STRONGLY_TYPED, VERSIONS, Simulation, World, load_api
from stand_in_surface import OVERLOADS, PROPERTIES, parameters

from yoloqat.engines.tensorrt.compile import started
from yoloqat.engines.tensorrt.load import load_tensorrt, version_of
from yoloqat.engines.tensorrt.logs import make_recorder
from yoloqat.engines.tensorrt.monitor import make_monitor
from yoloqat.errors import EngineError

MAJOR = version_of(trt)[0]


def member(name: str) -> Any:
    owner, _, rest = name.partition(".")
    return getattr(getattr(trt, owner), rest) if rest else getattr(trt, owner)


def check_every_simulated_name_is_real() -> None:
    simulated = [*Simulation(trt, MAJOR, World()).handlers(), *OVERLOADS, *PROPERTIES]
    assert len(simulated) > 40
    for name in simulated:
        member(name)


def check_assigned_properties_have_setters() -> None:
    for name in PROPERTIES:
        assert member(name).fset is not None, name


def check_overloads_are_documented() -> None:
    for name, signature in OVERLOADS.items():
        wanted = ", ".join(f"{param.name}: " for param in parameters(signature))
        documented = member(name).__doc__
        assert all(part in documented for part in wanted.split(", ") if part), name


def check_golden_surface() -> None:
    if trt.__version__ != VERSIONS[MAJOR]:
        return
    for name, members in load_api(MAJOR).items():
        if "enum" in members:
            assert sorted(getattr(trt, name).__members__) == sorted(members["enum"]), name
        for each, text in members.items():
            if each != "enum" and "obj" not in members:
                assert hasattr(getattr(trt, name), each), f"{name}.{each}"
                if "(self: " in text and "(*args" not in text and each != "__init__":
                    first = getattr(getattr(trt, name), each).__doc__.splitlines()[0]
                    plain = first.replace("tensorrt.tensorrt.", "")
                    assert plain == text, f"{plain} is not {text}"


def check_enumeration_values() -> None:
    assert int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == STRONGLY_TYPED[MAJOR]


def check_logger_can_be_derived_from() -> None:
    recorder = make_recorder(trt)
    recorder.log(trt.ILogger.ERROR, "two\nlines")
    recorder.log(trt.ILogger.WARNING, "a warning")
    recorder.log(trt.ILogger.INFO, "much")
    assert (recorder.errors, recorder.warnings) == (["two lines"], ["a warning"])


def check_monitor_can_be_derived_from() -> None:
    told: list[tuple[str, int, int]] = []
    monitor = make_monitor(trt, lambda *step: told.append(step))
    monitor.phase_start("Building", None, 2)
    assert monitor.step_complete("Building", 0)
    monitor.phase_finish("Building")
    assert [done for _, done, _ in told] == [0, 1, 2]


def check_no_gpu_is_explained() -> None:
    for make, what in ((trt.Builder, "builder"), (trt.Runtime, "runtime")):
        try:
            started(make, make_recorder(trt), what)
        except EngineError as error:
            assert f"TensorRT's {what} does not start" in str(error)  # noqa: PT017
        else:
            raise AssertionError(f"an empty library gave a {what}")


def check_plan_is_a_buffer() -> None:
    assert "buffer" in (trt.Runtime.deserialize_cuda_engine.__doc__ or "").lower()
    assert load_tensorrt() is trt


if __name__ == "__main__":
    assert Path(trt.__file__).is_relative_to(sys.argv[1])
    checks = {name: check for name, check in globals().items() if name.startswith("check_")}
    for check in checks.values():
        check()
    sys.stdout.write(json.dumps({"version": trt.__version__, "checks": sorted(checks)}))
