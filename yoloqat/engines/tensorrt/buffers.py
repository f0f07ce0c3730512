"""Where an engine's inputs and outputs lie: on the device, and in page-locked host memory beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.engines.tensorrt.cuda import Cuda
from yoloqat.errors import EngineError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: Its name.
        dtype: NumPy's type of its values.
    """

    name: str
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class Buffer:
    """The memory of one tensor, for its greatest shape.

    Attributes:
        tensor: What lies there.
        address: On the device.
        host: The page-locked values, flat.
    """

    tensor: Tensor
    address: int
    host: NDArray[Any]

    def view(self, shape: Shape) -> NDArray[Any]:
        """Return the first values in ``shape``."""
        return self.host[: math.prod(shape)].reshape(shape)


def engine_tensors(trt: Any, engine: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the input and the outputs of an engine.

    Raises:
        EngineError: It has another number of inputs than one, no output, or a type that NumPy lacks.
    """
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name)
        try:
            tensor = Tensor(name, np.dtype(trt.nptype(kind)))
        except TypeError as error:
            raise EngineError(
                f"'{name}' of the engine is {kind}",
                expected="a type that NumPy has",
                hint="export with float32 outputs",
            ) from error
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(tensor)
    if len(inputs) != 1 or not outputs or inputs[0].dtype.kind != "f":
        raise EngineError(
            f"the engine has the inputs {[f'{x.name} {x.dtype}' for x in inputs]} and {len(outputs)} outputs",
            expected="one input of float images, and an output",
            hint="export a detector",
        )
    return inputs[0], outputs


def output_shape(context: Any, name: str) -> Shape:
    """Return the shape of an output, the input's being set.

    Raises:
        EngineError: It depends on the values.
    """
    shape = tuple(int(side) for side in context.get_tensor_shape(name))
    if min(shape, default=0) < 0:
        raise EngineError(
            f"output '{name}' of the engine has the shape {shape}",
            expected="a shape that the input's tells",
            hint="export with a fixed number of detections",
        )
    return shape


def allocate(cuda: Cuda, tensor: Tensor, shape: Shape) -> Buffer:
    """Return memory for a tensor.

    Raises:
        EngineError: There is not so much.
    """
    count = math.prod(shape)
    return Buffer(tensor, cuda.device_memory(count * tensor.dtype.itemsize), cuda.pinned(count, tensor.dtype))
