import pytest
import torch
from torch import Tensor, nn

from yoloqat.quant.graph import trace
from yoloqat.quant.graph.cost import layer_costs


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 3, 2, stride=2, bias=False)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.conv(x))
        z = y @ y.transpose(2, 3)
        return self.linear(nn.functional.scaled_dot_product_attention(z, z, z))


@pytest.fixture(scope="module")
def costs() -> dict:
    return {cost.kind: cost for cost in layer_costs(trace(Net().eval(), torch.zeros(2, 4, 8, 8)))}


def test_convolutions_count_their_groups(costs):
    conv = costs["conv2d"]
    assert (conv.name, conv.input, conv.output) == ("conv", (2, 4, 8, 8), (2, 6, 4, 4))
    assert conv.macs == 2 * 6 * 4 * 4 * (4 // 2) * 9
    assert conv.parameters == 6 * 2 * 9 + 6


def test_transposed_convolutions_count_their_inputs(costs):
    up = costs["conv_transpose2d"]
    assert (up.macs, up.parameters) == (2 * 6 * 4 * 4 * 3 * 4, 6 * 3 * 4)


def test_linear_layers_count_every_row(costs):
    assert (costs["linear"].macs, costs["linear"].parameters) == (2 * 3 * 8 * 8 * 5, 8 * 5 + 5)


def test_matrix_products_have_no_parameters(costs):
    product = next(costs[kind] for kind in ("matmul", "bmm") if kind in costs)
    assert (product.macs, product.parameters) == (2 * 3 * 8 * 8 * 8, 0)


def test_attention_is_two_products(costs):
    attention = costs.get("scaled_dot_product_attention")
    assert attention is not None
    assert attention.macs == 2 * (2 * 3 * 8 * 8 * 8)
