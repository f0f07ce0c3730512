"""Fake quantization in one kernel: its numbers by Triton's interpreter, which needs no GPU, and on a GPU where there is one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from yoloqat.config import QuantScheme
from yoloqat.quant import fused
from yoloqat.quant.functional import fake_quant, fake_quant_scaled, inv_scale
from yoloqat.quant.fused import BLOCK, TRIED, fake_quant_fused, fuses, fusible, kernel

MODULE = "yoloqat.quant.triton_kernel"
LIMITS = {"min.NaN.f32", "max.NaN.f32"}
SHAPE = (3, 4, 5, 6)
RANGES = {
    "one range": torch.tensor(2.0),
    "by the first axis": torch.tensor([2.0, 0.0, 0.3]).reshape(3, 1, 1, 1),
    "by the second axis": torch.tensor([2.0, 0.0, 0.3, 5.0]).reshape(1, 4, 1, 1),
}


def reference(x: Tensor, amax: Tensor, scheme: QuantScheme) -> Tensor:
    return fake_quant_scaled(x, inv_scale(amax, scheme), scheme)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Triton's interpreter instead of its compiler; the kernel asks for either when it is imported."""
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    kernel.cache_clear()
    fuses.cache_clear()
    yield
    sys.modules.pop(MODULE, None)
    kernel.cache_clear()
    fuses.cache_clear()


def values(dtype: torch.dtype = torch.float32) -> Tensor:
    x = 3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    x.view(-1)[:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, 2.0])
    return x.to(dtype)


def same(result: Tensor, expected: Tensor) -> bool:
    return torch.equal(result.isnan(), expected.isnan()) and torch.equal(result.nan_to_num(0), expected.nan_to_num(0))


@pytest.mark.parametrize("amax", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("scheme", [QuantScheme(), QuantScheme(bits=4, narrow_range=True), QuantScheme(unsigned=True)])
@pytest.mark.usefixtures("interpreted")
def test_the_kernel_gives_the_numbers_of_the_reference(amax: Tensor, scheme: QuantScheme) -> None:
    for dtype in (torch.float32, torch.float16):
        x = values(dtype)
        assert fusible(x, amax, scheme)
        result, inside = fake_quant_fused(x, amax, scheme, mask=True)
        assert result.dtype == dtype
        assert same(result, reference(x, amax, scheme))
        assert torch.equal(inside, x.abs() <= amax)
        alone, nothing = fake_quant_fused(x, amax, scheme, mask=False)
        assert nothing is None
        assert same(alone, result)


@pytest.mark.usefixtures("interpreted")
def test_bfloat16_is_computed_in_float32() -> None:
    x, amax = values(torch.bfloat16), torch.tensor(2.0)
    result, _ = fake_quant_fused(x, amax, QuantScheme(), mask=False)
    exact = reference(x.float(), amax, QuantScheme())
    # the interpreter cuts digits off where a GPU rounds
    assert ((result.float() - exact).abs().nan_to_num(0) <= exact.abs().nan_to_num(0) / 128).all()


@pytest.mark.usefixtures("interpreted")
def test_channels_may_lie_last_in_memory() -> None:
    x = values().to(memory_format=torch.channels_last)
    for name in ("one range", "by the first axis"):
        amax = RANGES[name]
        assert fusible(x, amax, QuantScheme())
        result, inside = fake_quant_fused(x, amax, QuantScheme(), mask=True)
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert same(result, reference(x, amax, QuantScheme()))
        assert torch.equal(inside, x.abs() <= amax)
    assert not fusible(x, RANGES["by the second axis"], QuantScheme())


@pytest.mark.usefixtures("interpreted")
def test_more_values_than_one_program_takes_and_every_tie() -> None:
    x = (torch.arange(5000.0) - 2500) / 2
    result, _ = fake_quant_fused(x, torch.tensor(127.0), QuantScheme(), mask=False)
    assert torch.equal(result, x.round().clamp(-128, 127))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_gpu_is_told_to_round_every_operation_to_the_nearest(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled for a GPU that need not be there: no approximate division, nothing flushed to zero, nothing fused."""
    triton = pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds only")
    compiler = pytest.importorskip("triton.backends.compiler")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    arguments = dict.fromkeys(("x_at", "result_at"), f"*{dtype}") | {"inside_at": "*i8", "amax_at": "*fp32"}
    arguments |= dict.fromkeys(("count", "inner", "channels"), "i32") | dict.fromkeys(
        ("low", "high", "epsilon"), "fp32"
    )
    source = triton.compiler.ASTSource(
        fn=kernel(),
        signature=arguments | {"block": "constexpr", "keep": "constexpr"},
        constexprs={"block": BLOCK, "keep": True},
    )
    compiled = triton.compile(source, target=compiler.GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    found = set(re.findall(r"\b(?:fma|mul|add|sub|div|rcp|ex2|min|max)\.[\w.]*f32\b", compiled.asm["ptx"]))
    assert {operation.replace(".rn", "") for operation in found} == {"mul.f32", "add.f32", "div.f32"} | LIMITS
    assert "div.rn.f32" in found


@pytest.mark.parametrize(
    ("x", "amax"),
    [
        (torch.zeros(4, 4).t()[:2], torch.tensor(1.0)),
        (torch.zeros(4, 4), torch.ones(4, 4)),
        (torch.zeros(4, 4), torch.ones(4)),
        (torch.zeros(4, 4).double(), torch.tensor(1.0)),
        (torch.zeros(4, 4), torch.tensor(1.0).half()),
        (torch.zeros(0), torch.tensor(1.0)),
    ],
    ids=["with gaps", "a range per value", "fewer dimensions", "float64", "half a range", "empty"],
)
def test_what_the_kernel_cannot_take_is_left_to_the_reference(x: Tensor, amax: Tensor) -> None:
    assert not fusible(x, amax, QuantScheme())


@pytest.mark.usefixtures("interpreted")
def test_a_device_is_tried_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert fuses(cpu, reference)
    with pytest.warns(UserWarning, match="fake quantization is not fused on cpu: Triton's numbers differ"):
        assert not fuses(cpu, lambda x, amax, scheme: reference(x, amax, scheme) * 1.001)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(fused, "kernel", lambda: _Grid(broken))
    fuses.cache_clear()
    with pytest.warns(UserWarning, match="not fused on cpu: Triton says Failed to find C compiler"):
        assert not fuses(cpu, reference)
    monkeypatch.setattr(fused, "kernel", lambda: None)
    fuses.cache_clear()
    assert not fuses(cpu, reference)
    assert TRIED > 4 * 255


class _Grid:
    def __init__(self, launch: object) -> None:
        self.launch = launch

    def __getitem__(self, grid: tuple[int, ...]) -> object:
        return self.launch


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("amax", RANGES.values(), ids=RANGES)
def test_a_gpu_gives_the_numbers_of_the_reference(amax: Tensor, dtype: torch.dtype) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    assert fuses(device, reference)
    x = values(dtype)
    result, inside = fake_quant_fused(x.to(device), amax.to(device), QuantScheme(), mask=True)
    assert same(result.cpu(), reference(x, amax, QuantScheme()))
    assert torch.equal(inside.cpu(), x.abs() <= amax)
    leaf = x.to(device).requires_grad_()
    fake_quant(leaf, amax.to(device), QuantScheme()).sum().backward()
    assert torch.equal(leaf.grad.cpu() != 0, x.abs() <= amax)
