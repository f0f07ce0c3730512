"""Peak rates of GPUs, from NVIDIA's own sheets; compared with published copies of them, and marked where no sheet states one."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.linting.fusion.model import FLOAT, HALF, INT8
from yoloqat.linting.rule import Source

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Gpu:
    """A GPU, as a roofline sees it; all rates are dense, where NVIDIA's sheet gives them with sparsity half of that.

    Attributes:
        name: What a user types.
        title: Its name.
        int8: Operations per second of the tensor cores in INT8, two for each multiply-add.
        half: The same in FP16.
        tf32: The same in TF32, which convolutions of FP32 tensors take; of FP32 where there is none.
        cores: FP32 operations per second of the CUDA cores, which depthwise convolutions run on.
        bandwidth: Bytes per second of its memory.
        source: Where the rates can be read.
    """

    name: str
    title: str
    int8: float
    half: float
    tf32: float
    cores: float
    bandwidth: float
    source: Source

    def rate(self, precision: str) -> float:
        """Return the peak of the tensor cores for activations of ``precision``."""
        return {INT8: self.int8, HALF: self.half, FLOAT: self.tf32}[precision]


_SHEETS = "https://www.nvidia.com/content/dam/en-zz/Solutions"
_ORIN = Source(
    "NVIDIA, Jetson AGX Orin Series Technical Brief: 170 sparse INT8 TOPS of the GPU at 1.3 GHz, 5.3 FP32 TFLOPS, 204.8 GB/s; "
    "FP16 and TF32 not stated there, not confirmed: half of INT8 and of FP16, as on other GPUs of its architecture",
    "https://www.nvidia.com/content/dam/en-zz/Solutions/gtcf21/jetson-orin/nvidia-jetson-agx-orin-technical-brief.pdf",
)
_T4 = Source(
    "NVIDIA T4, datasheet: 130 INT8 TOPS, 65 FP16 TFLOPS, 8.1 FP32 TFLOPS, 320 GB/s; it has no TF32",
    f"{_SHEETS}/Data-Center/tesla-t4/t4-tensor-core-datasheet-951643.pdf",
)
_L4 = Source(
    "NVIDIA L4, datasheet: 485 INT8 TOPS, 242 FP16 and 120 TF32 TFLOPS with sparsity, 30.3 FP32 TFLOPS, 300 GB/s",
    "https://www.nvidia.com/en-us/data-center/l4/",
)
_A10 = Source(
    "NVIDIA A10, datasheet: 250 INT8 TOPS, 125 FP16, 62.5 TF32 and 31.2 FP32 TFLOPS, 600 GB/s",
    f"{_SHEETS}/Data-Center/a10/pdf/datasheet-new/nvidia-a10-datasheet.pdf",
)
_H100 = Source(
    "NVIDIA H100 SXM, datasheet: 3958 INT8 TOPS, 1979 FP16 and 989 TF32 TFLOPS with sparsity, 67 FP32 TFLOPS, 3.35 TB/s",
    "https://www.nvidia.com/en-us/data-center/h100/",
)
_H200 = Source(
    "NVIDIA H200 SXM, datasheet: the rates of H100 SXM, 4.8 TB/s", "https://www.nvidia.com/en-us/data-center/h200/"
)

GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("orin", "Jetson AGX Orin 64GB", 85 * TERA, 42.5 * TERA, 21.25 * TERA, 5.3 * TERA, 204.8 * GIGA, _ORIN),
        Gpu("t4", "T4", 130 * TERA, 65 * TERA, 8.1 * TERA, 8.1 * TERA, 320 * GIGA, _T4),
        Gpu("l4", "L4", 242.5 * TERA, 121 * TERA, 60 * TERA, 30.3 * TERA, 300 * GIGA, _L4),
        Gpu("a10", "A10", 250 * TERA, 125 * TERA, 62.5 * TERA, 31.2 * TERA, 600 * GIGA, _A10),
        Gpu("h100", "H100 SXM", 1979 * TERA, 989.5 * TERA, 494.5 * TERA, 67 * TERA, 3350 * GIGA, _H100),
        Gpu("h200", "H200 SXM", 1979 * TERA, 989.5 * TERA, 494.5 * TERA, 67 * TERA, 4800 * GIGA, _H200),
    )
}
"""All GPUs with known rates, by name."""

DEFAULT_GPU = "orin"
