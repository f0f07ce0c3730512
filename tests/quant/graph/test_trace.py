import sys

import pytest
import torch
from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.quant import quantizers, swap_layers, swappable_layers
from yoloqat.quant.graph import Executor, Graphs, Node, Ref, quantizer_placeholders, trace
from yoloqat.quant.graph.trace import CONSTANT, INPUT, PARAMETER, PLACEHOLDER

trace_module = sys.modules["yoloqat.quant.graph.trace"]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.b(self.act(self.a(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.unused = nn.Conv2d(3, 4, 3, stride=2), Block(), nn.Conv2d(4, 4, 1)
        self.head, self.offset = nn.ModuleList([nn.Conv2d(8, 5, 1)]), torch.arange(5.0).view(1, 5, 1, 1)
        # a module called through a bound method of its own, as Ultralytics' are after fusing
        self.block.__dict__["forward"] = self.block.forward

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.block(self.stem(x))
        self.unused(y)
        left, right = y.chunk(2, 1)
        return self.head[0](torch.cat([y, right, left], 1)) + self.offset, left


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    swap_layers(net, swappable_layers(net), QuantConfig())
    for _, quantizer in quantizers(net):
        quantizer.amax = 2.0
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 17, 17, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)


def test_the_executor_gives_the_modules_own_bits(net, images):
    executor = Executor(net, trace(net, images))
    with torch.inference_mode():
        expected = net(images)
    assert all(torch.equal(a, b) for a, b in zip(executor(images), expected, strict=True))


def test_values_stay_when_later_nodes_run(net, images):
    executor = Executor(net, trace(net, images))
    values, kept = {}, {}
    with torch.inference_mode():
        for node in executor.traced.nodes:
            values[node.index] = executor.run_node(node, values, images)
            if isinstance(values[node.index], Tensor):
                kept[node.index] = values[node.index].clone()
    assert all(torch.equal(values[index], kept[index]) for index in kept)


def test_every_quantizer_is_a_node_where_it_is_used(net, images):
    traced = trace(net, images)
    found = [(location.target, location.module) for location in traced.placeholders()]
    layers = ["stem", "block.a", "block.b", "head.0"]
    assert sorted(found) == sorted(
        (f"{layer}.{kind}", f"{layer}.{kind}") for layer in layers for kind in ("_input_quantizer", "_weight_quantizer")
    )


def test_a_quantizer_that_is_off_is_no_node(net, images):
    net.stem._input_quantizer.disable()
    assert "stem._input_quantizer" not in [location.target for location in trace(net, images).placeholders()]


def test_what_reaches_no_output_is_left_out(net, images):
    assert not any("unused" in str(node.target) for node in trace(net, images).nodes)


def test_nodes_know_their_modules_through_bound_methods(net, images):
    convolutions = [node.module for node in trace(net, images).nodes if node.op == "aten.conv2d.default"]
    assert convolutions == ["stem", "block.a", "block.b", "head.0"]
    add = [node.module for node in trace(net, images).nodes if node.op == "aten.add.Tensor"]
    assert add == ["block", ""]


def test_every_node_reads_only_nodes_before_it(net, images):
    nodes = trace(net, images).nodes
    assert [node.index for node in nodes] == list(range(len(nodes)))
    assert all(read < node.index for node in nodes for read in node.reads())
    assert not any(node.op.endswith("_.default") for node in nodes)
    assert {INPUT, PARAMETER, CONSTANT, PLACEHOLDER} <= {node.op for node in nodes}


def test_downstream_is_everything_that_depends(net, images):
    traced = trace(net, images)
    location = next(location for location in traced.placeholders() if location.target == "head.0._input_quantizer")
    reached = {traced.nodes[index].op for index in traced.downstream({location.index})}
    assert reached == {PLACEHOLDER, "aten.conv2d.default", "aten.add.Tensor"}
    assert traced.outputs[0] in traced.downstream({location.index})
    assert traced.outputs[1] not in traced.downstream({location.index})


def test_reads_and_readers_agree(net, images):
    traced = trace(net, images)
    pairs = {(node.index, read) for node in traced.nodes for read in node.reads()}
    assert pairs == {(reader, read) for read, readers in traced.readers().items() for reader in readers}


def test_references_inside_lists_are_read_once():
    assert Node(3, "cat", "aten.cat.default", "", "", ([Ref(1), Ref(0), Ref(1)], 1)).reads() == (1, 0)


def test_marking_ends_with_its_context(net):
    with quantizer_placeholders(net), quantizer_placeholders(net):
        assert net.stem._input_quantizer._placeholder == "stem._input_quantizer"
    assert all(quantizer._placeholder is None for _, quantizer in quantizers(net))


def test_a_changed_quantizer_changes_the_executors_result(net, images):
    executor = Executor(net, trace(net, images))
    before = executor(images)[0]
    net.head[0]._input_quantizer.disable()
    with torch.inference_mode():
        expected = net(images)[0]
    assert torch.equal(executor(images)[0], expected)
    assert not torch.equal(before, expected)


def test_training_mode_is_refused(net, images):
    with pytest.raises(ModelError, match="module Net is in training mode"):
        trace(net.train(), images)


def test_a_branch_on_data_is_refused():
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="module Branch cannot be traced"):
        trace(Branch().eval(), torch.zeros(1, 3, 8, 8))


def test_images_of_another_shape_are_refused(net, images):
    executor = Executor(net, trace(net, images))
    with pytest.raises(ModelError, match=r"images have the shape \(1, 3, 17, 17\)"):
        executor(images[:1])


def test_no_stack_is_noted_for_a_node_and_torch_is_left_as_it_was(net, images, monkeypatch):
    if not hasattr(torch.fx.config, "do_not_emit_stack_traces"):
        pytest.skip("this torch always notes them")
    made, export = [], torch.export.export
    monkeypatch.setattr(
        torch.export, "export", lambda *args, **options: made.append(export(*args, **options)) or made[0]
    )
    trace(net, images)
    assert not any(node.stack_trace for node in made[0].graph.nodes)
    assert not torch.fx.config.do_not_emit_stack_traces


def test_a_module_is_traced_once_at_each_shape(net, images, monkeypatch):
    asked = []
    monkeypatch.setattr(
        trace_module, "trace", lambda module, example: asked.append(len(example)) or trace(module, example)
    )
    graphs = Graphs(net, kept=2)
    first = graphs.at(images)
    assert graphs.at(images) is first
    graphs.at(images[:1])
    graphs.at(images)
    assert asked == [2, 1]
    graphs.at(torch.cat([images, images]))
    graphs.at(images)
    graphs.at(images[:1])
    assert asked == [2, 1, 4, 1], "the one that was asked for longest ago is gone"
