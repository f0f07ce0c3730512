"""A model as a graph of tensors and quantizers."""

from yoloqat.quant.graph.beside import beside_quantized, dequantized_readers
from yoloqat.quant.graph.execute import Executor
from yoloqat.quant.graph.placeholders import quantizer_placeholders
from yoloqat.quant.graph.plan import PlacementPlan, PlannedTensor, ScaleGroup
from yoloqat.quant.graph.planner import make_plan, plan_module
from yoloqat.quant.graph.text import plan_text, reader_name
from yoloqat.quant.graph.trace import Graphs, Node, Ref, Traced, trace

__all__ = [
    "Executor",
    "Graphs",
    "Node",
    "PlacementPlan",
    "PlannedTensor",
    "Ref",
    "ScaleGroup",
    "Traced",
    "beside_quantized",
    "dequantized_readers",
    "make_plan",
    "plan_module",
    "plan_text",
    "quantizer_placeholders",
    "reader_name",
    "trace",
]
