"""A model as the graph of its tensors, in which every quantizer can be seen."""

from yoloqat.quant.graph.execute import Executor
from yoloqat.quant.graph.marking import marking
from yoloqat.quant.graph.trace import Node, Ref, Traced, trace

__all__ = ["Executor", "Node", "Ref", "Traced", "marking", "trace"]
