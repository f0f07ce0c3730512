"""A module's data flow as a list of nodes, by `torch.export`."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.fx.config
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree

from yoloqat.errors import ModelError
from yoloqat.quant.graph.placeholders import quantizer_placeholders
from yoloqat.quant.tensor_quantizer import PLACEHOLDER_OP

PLACEHOLDER = f"{PLACEHOLDER_OP.replace('::', '.')}.default"
"""The op of a node that stands for a quantizer."""

INPUT, PARAMETER, CONSTANT, GETITEM = "input", "parameter", "constant", "getitem"
"""The op of a node that computes nothing: an input of the module, a parameter or buffer, a tensor the trace made fast; and of
one that takes an item of a tuple."""

_STACK_TRACES_OFF = "do_not_emit_stack_traces"


@dataclass(frozen=True)
class Ref:
    """The value of another node, where it stands among a node's arguments.

    Attributes:
        index: Position of that node in :attr:`Traced.nodes`.
    """

    index: int


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        index: Its position in :attr:`Traced.nodes`; every node it reads stands before it.
        name: Unique name, e.g. ``"conv2d_3"``.
        op: The operator, e.g. ``"aten.conv2d.default"``; :data:`INPUT`, :data:`PARAMETER`, :data:`CONSTANT`,
            :data:`GETITEM` or :data:`PLACEHOLDER`.
        module: Qualified name of the innermost module whose ``forward`` it ran in; ``""`` is the model itself.
        module_type: Class of that module, with its package.
        args: Positional arguments; a tensor among them is a :class:`Ref`, also inside lists.
        kwargs: Keyword arguments, with the same references.
        shape: Shape of its value; None where the value is no tensor.
        dtype: Dtype of its value; None where the value is no tensor.
        target: Qualified name of the parameter, buffer or constant, or of the quantizer that a placeholder stands for; None for
            all other nodes.
        function: Callable that computes it; None for nodes that compute nothing.
    """

    index: int
    name: str
    op: str
    module: str
    module_type: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    target: str | None = None
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    def reads(self) -> tuple[int, ...]:
        """Return the positions of the nodes whose values it reads, each once, in the order of its arguments."""
        leaves = _pytree.tree_leaves((self.args, self.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
        return tuple(dict.fromkeys(leaf.index for leaf in leaves if isinstance(leaf, Ref)))


@dataclass(frozen=True)
class Traced:
    """The graph of a module at one shape of its input.

    Attributes:
        nodes: In the order of execution; nodes that reach no output are left out.
        outputs: Positions of the output tensors, in order.
        constants: Tensors that belong to no parameter or buffer, by name.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    constants: dict[str, Tensor] = field(repr=False)

    def readers(self) -> dict[int, tuple[int, ...]]:
        """Return, for the position of every node, the positions of the nodes that read its value."""
        found: dict[int, list[int]] = {node.index: [] for node in self.nodes}
        for node in self.nodes:
            for read in node.reads():
                found[read].append(node.index)
        return {index: tuple(readers) for index, readers in found.items()}

    def placeholders(self) -> Iterator[Node]:
        """Yield the nodes that stand for a quantizer."""
        return (node for node in self.nodes if node.op == PLACEHOLDER)

    def downstream(self, starts: set[int]) -> set[int]:
        """Return ``starts`` and all nodes that depend on one of them."""
        reached = set(starts)
        for node in self.nodes:
            if node.index not in reached and not reached.isdisjoint(node.reads()):
                reached.add(node.index)
        return reached


@contextmanager
def without_stack_traces() -> Iterator[None]:
    """Let torch note no line of Python with each node of a graph, which takes a third of a trace, where it can be told so."""
    settings: Any = torch.fx.config
    before = getattr(settings, _STACK_TRACES_OFF, None)
    if before is None:
        yield
        return
    setattr(settings, _STACK_TRACES_OFF, True)
    try:
        yield
    finally:
        setattr(settings, _STACK_TRACES_OFF, before)


def trace(module: nn.Module, example: Tensor) -> Traced:
    """Trace a module with `torch.export` at the shape and memory format of ``example``.

    Quantizers that are switched on appear as nodes of the op :data:`PLACEHOLDER`. The graph has no operation in place, so that a
    value once computed stays.

    Args:
        module: A module in evaluation mode whose outputs are tensors, perhaps in tuples, lists or dicts.
        example: Images, shape (batch, channels, height, width), float32, on the module's device.

    Raises:
        ModelError: The module is in training mode or cannot be traced.
    """
    if module.training:
        raise ModelError(
            f"module {type(module).__name__} is in training mode", expected="evaluation mode", hint="call eval() first"
        )
    with torch.no_grad(), quantizer_placeholders(module), without_stack_traces():
        # a detector's head keeps its anchors from the last forward; traced at another shape it would branch on data
        module(example)
        try:
            program = torch.export.export(module, (example,), strict=False)
            if _writes_in_place(program.graph):
                program = program.run_decompositions({})
        except Exception as error:  # torch.export lets through whatever its parts raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(
                f"module {type(module).__name__} cannot be traced ({reason[0][:200]})",
                expected="a module that torch.export can trace",
                hint="remove branches on data from its forward",
            ) from error
    return _Reader(module, program).traced()


class Graphs:
    """The graphs of one module by the shape of its input, each traced once; the module must not change meanwhile.

    Args:
        module: In evaluation mode.
        kept: How many graphs are kept, the last ones that were asked for.
    """

    def __init__(self, module: nn.Module, *, kept: int = 8) -> None:
        self._module, self._kept = module, kept
        self._traced: OrderedDict[tuple[int, ...], Traced] = OrderedDict()

    def at(self, images: Tensor) -> Traced:
        """Return the graph at the shape of some images, which all have one memory format.

        Raises:
            ModelError: As :func:`trace`.
        """
        shape = tuple(images.shape)
        if shape not in self._traced:
            self._traced[shape] = trace(self._module, images)
            while len(self._traced) > self._kept:
                self._traced.popitem(last=False)
        self._traced.move_to_end(shape)
        return self._traced[shape]


def _writes_in_place(graph: torch.fx.Graph) -> bool:
    schemas = (getattr(node.target, "_schema", None) for node in graph.nodes)
    return any(schema is not None and schema.is_mutable for schema in schemas)


class _Reader:
    """Turns an exported program into nodes."""

    def __init__(self, module: nn.Module, program: torch.export.ExportedProgram) -> None:
        self._program = program
        self._modules = dict(module.named_modules(remove_duplicate=False))  # also under second names
        self._inputs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        self._nodes: list[Node] = []
        self._index: dict[torch.fx.Node, int] = {}
        self._constants: dict[str, Tensor] = {}

    def traced(self) -> Traced:
        """Read the program's graph without the nodes that reach no output."""
        graph = self._program.graph
        user = set(self._program.graph_signature.user_outputs)
        output = next(node for node in graph.nodes if node.op == "output")
        results = [node for node in output.all_input_nodes if node.name in user]
        needed, waiting = set(results), list(results)
        while waiting:
            for read in waiting.pop().all_input_nodes:
                if read not in needed:
                    needed.add(read)
                    waiting.append(read)
        for node in graph.nodes:
            if node in needed:
                self._index[node] = len(self._nodes)
                self._nodes.append(self._node(node))
        return Traced(tuple(self._nodes), tuple(self._index[node] for node in results), self._constants)

    def _node(self, node: torch.fx.Node) -> Node:
        module, kind = self._where(node)
        value = node.meta.get("val")
        shape = tuple(int(side) for side in value.shape) if isinstance(value, Tensor) else None
        dtype = value.dtype if isinstance(value, Tensor) else None
        index = len(self._nodes)
        if node.op == "placeholder":
            op, target = self._graph_input(node)
            return Node(index, node.name, op, module, kind, shape=shape, dtype=dtype, target=target)
        args, kwargs = self._referring(node.args), self._referring(node.kwargs)
        op = GETITEM if node.target is operator.getitem else str(node.target)
        target = str(args[1]) if op == PLACEHOLDER else None
        function = node.target if callable(node.target) else None
        return Node(index, node.name, op, module, kind, tuple(args), dict(kwargs), shape, dtype, target, function)

    def _referring(self, argument: Any) -> Any:
        """Return an argument with references in the places of graph nodes."""
        if isinstance(argument, torch.fx.Node):
            return Ref(self._index[argument])
        if isinstance(argument, list | tuple):
            return type(argument)([self._referring(part) for part in argument])
        if isinstance(argument, dict):
            return {name: self._referring(part) for name, part in argument.items()}
        return argument

    def _graph_input(self, node: torch.fx.Node) -> tuple[str, str | None]:
        spec = self._inputs[node.name]
        if spec.kind == InputKind.USER_INPUT:
            return INPUT, None
        if spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent):
            return PARAMETER, spec.target
        name = str(spec.target)
        self._constants[name] = self._program.constants[name]
        return CONSTANT, name

    def _where(self, node: torch.fx.Node) -> tuple[str, str]:
        """Return the qualified name and the class of the innermost module that ``node`` ran in.

        A module that was called through a bound method has a name relative to its parent.
        """
        name, kind = "", type(self._modules[""]).__name__
        for path, stated in (node.meta.get("nn_module_stack") or {}).values():
            joined = f"{name}.{path}" if name else path
            inside = not name or path.startswith(f"{name}.")
            name = path if inside and path in self._modules else joined if joined in self._modules else path
            kind = stated if isinstance(stated, str) else f"{stated.__module__}.{stated.__qualname__}"
        return name, kind
