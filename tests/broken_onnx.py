"""Small valid graphs broken in one place each, as damaged and hand-edited files are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Break = Callable[[onnx.ModelProto, random.Random], None]

OPERATORS = (
    "FooBar",
    "Clip",
    "Relu",
    "MaxPool",
    "Resize",
    "Concat",
    "Split",
    "Loop",
    "Conv",
    "QuantizeLinear",
    "TopK",
    "",
)
NUMBERS = (0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38)


def set_value(model: onnx.ModelProto, name: str, value: float) -> None:
    """Fill the initialiser ``name`` with ``value``."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = np.full(tensor.dims, value, helper.tensor_dtype_to_np_dtype(tensor.data_type))
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto:
    return rng.choice(model.graph.node)


def operator(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).op_type = rng.choice(OPERATORS)


def domain(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).domain = rng.choice(["com.microsoft", "somewhere", "ai.onnx.ml", "org.openvinotoolkit"])
    if rng.random() < 0.5:
        model.opset_import.append(helper.make_opsetid("somewhere", 1))


def missing_input(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    node.input[rng.randrange(len(node.input))] = rng.choice(["nowhere", ""])


def fewer_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    del node.input[rng.randrange(len(node.input)) :]


def more_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).input.extend(["images"] * rng.randint(1, 5))


def other_input(model: onnx.ModelProto, rng: random.Random) -> None:
    """Read any tensor: a later one, so that there is a cycle, or one of another type or shape."""
    tensors = [t.name for t in model.graph.initializer] + [name for node in model.graph.node for name in node.output]
    node = _node(model, rng)
    node.input[rng.randrange(len(node.input))] = rng.choice(tensors)


def cycle(model: onnx.ModelProto, rng: random.Random) -> None:
    place = rng.randrange(len(model.graph.node))
    behind = rng.choice(model.graph.node[place:])
    model.graph.node[place].input[0] = behind.output[0]


def order(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def drop_node(model: onnx.ModelProto, rng: random.Random) -> None:
    del model.graph.node[rng.randrange(len(model.graph.node))]


def outputs(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    choice = rng.randrange(4)
    if choice == 0:
        del node.output[:]
    elif choice == 1:
        node.output[0] = rng.choice(model.graph.node).output[0] if rng.choice(model.graph.node).output else "x"
    elif choice == 2:
        node.output.append("second output")
    else:
        node.output[0] = ""


def number(model: onnx.ModelProto, rng: random.Random) -> None:
    """Scale of 0, NaN or infinity, and weights of the like."""
    names = [tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    set_value(model, rng.choice(names), rng.choice(NUMBERS))


def shape(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    dims = rng.choice([[], [0], [-1], [7], [*tensor.dims, 1], [2**40], list(tensor.dims)[::-1], [1, *tensor.dims]])
    del tensor.dims[:]
    tensor.dims.extend(dims)


def consistent_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    """A tensor that is whole, of a shape that does not fit its reader."""
    tensor = rng.choice(model.graph.initializer)
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    dims = rng.choice([(), (0,), (1,), (7,), (2, 3), (5, 4, 3, 3), (1, 1, 1, 1, 1)])
    tensor.CopyFrom(numpy_helper.from_array(np.ones(dims, kind), tensor.name))


def dtype(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.data_type = rng.choice([0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 21, 99])


def data(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = rng.choice([b"", tensor.raw_data[:-1], tensor.raw_data * 2])


def external(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    place = rng.choice(["weights.bin", "../../etc/passwd", "/etc/passwd", "", "/dev/zero"])
    for key, value in (("location", place), ("offset", rng.choice(["0", "-1", "x"])), ("length", "10")):
        tensor.external_data.add(key=key, value=value)


def no_initializer(model: onnx.ModelProto, rng: random.Random) -> None:
    del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    name = rng.choice(["axis", "pads", "kernel_shape", "strides", "dilations", "group", "auto_pad", "foo"])
    value = rng.choice([-7, 99, 0, 2**62, [0, 0], [-1] * 4, [2**40] * 4, [], 0.5, "text", [0.5], ["a"]])
    for old in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(old)
    if value == []:
        node.attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))
    else:
        node.attribute.append(helper.make_attribute(name, value))


def attribute_kind(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice([n for n in model.graph.node if n.attribute])
    rng.choice(node.attribute).type = rng.choice([0, 1, 2, 3, 4, 5, 7, 14])


def versions(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5:
        model.opset_import[0].version = rng.choice([0, -1, 1, 7, 9, 12, 200, 2**40])
    elif rng.random() < 0.5:
        model.ir_version = rng.choice([0, -1, 1, 3, 99, 2**40])
    else:
        del model.opset_import[:]


def graph_input(model: onnx.ModelProto, rng: random.Random) -> None:
    value = model.graph.input[0]
    choice = rng.randrange(6)
    if choice == 0:
        del model.graph.input[:]
    elif choice == 1:
        value.type.tensor_type.ClearField("shape")
    elif choice == 2:
        value.type.tensor_type.elem_type = rng.choice([0, 2, 6, 7, 8, 10, 99])
    elif choice == 3:
        value.type.tensor_type.shape.dim[rng.randrange(4)].dim_value = rng.choice([0, -1, 1, 7, 2**31, 2**62])
    elif choice == 4:
        value.type.ClearField("tensor_type")
    else:
        model.graph.input.add().CopyFrom(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))


def graph_output(model: onnx.ModelProto, rng: random.Random) -> None:
    value = model.graph.output[0]
    choice = rng.randrange(4)
    if choice == 0:
        value.name = "nowhere"
    elif choice == 1:
        value.type.tensor_type.elem_type = rng.choice([0, 3, 7, 8])
    elif choice == 2:
        value.type.tensor_type.shape.dim[1].dim_value = 99
    else:
        value.name = "images"


def names(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    node.name = rng.choice(["", "x" * 100_000, "a\nb", "\x00", model.graph.node[0].name])


BREAKS: tuple[Break, ...] = (
    operator,
    domain,
    missing_input,
    fewer_inputs,
    more_inputs,
    other_input,
    cycle,
    order,
    drop_node,
    outputs,
    number,
    shape,
    consistent_shape,
    dtype,
    data,
    external,
    no_initializer,
    attribute,
    attribute_kind,
    versions,
    graph_input,
    graph_output,
    names,
)


def broken_models(make: Callable[[], onnx.ModelProto], *, each: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Return ``each`` files of every kind of break, and as many of damaged bytes, each with a name."""
    for change in BREAKS:
        for index in range(each):
            rng = random.Random(f"{seed} {change.__name__} {index}")
            model = make()
            change(model, rng)
            yield f"{change.__name__}-{index}", model.SerializeToString()
    whole = make().SerializeToString()
    for index in range(each):
        rng = random.Random(f"{seed} bytes {index}")
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        yield f"bytes-{index}", bytes(damaged)
        yield f"cut-{index}", whole[: rng.randrange(len(whole))]
