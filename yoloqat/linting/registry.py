"""All rules of the lint, with their reasons."""

from __future__ import annotations

from yoloqat.linting import sources
from yoloqat.linting.finding import Severity
from yoloqat.linting.rule import Rule
from yoloqat.linting.rules import axes, file, head, layers, pairs, precision, qparams, residual, sharing

_ERRORS = (
    Rule(
        "malformed-graph",
        Severity.ERROR,
        "empty graph, dangling or doubled tensors, nodes out of order",
        "Such a file is no valid ONNX graph; engines refuse it or read it differently.",
        sources.ONNX_IR,
        "write the file again with the tool that made it and check it with onnx.checker",
        file.malformed,
    ),
    Rule(
        "opset",
        Severity.ERROR,
        "opset that the engine does not read, or that lacks what the quantizers use",
        "Q and DQ came with opset 10, scales per channel with 13, float16 scales and FP8 with 19, blocks and INT4 with 21, "
        "FP4 with 23; the parser reads from 9 up to the version of its release.",
        sources.OPSETS,
        "export with opset 19",
        file.opset,
    ),
    Rule(
        "integer-operator",
        Severity.ERROR,
        "QLinear*, ConvInteger, MatMulInteger, DynamicQuantizeLinear and their like",
        "TensorRT's parser has none of them; it takes quantization as Q and DQ around float operators alone.",
        sources.ONNX_SUPPORT,
        "quantize again in QDQ format with static scales",
        file.integer_operators,
    ),
    Rule(
        "zero-point",
        Severity.ERROR,
        "zero-point that is not 0, not constant, absent, or not one per scale",
        "TensorRT quantizes symmetrically: its parser refuses any zero-point but 0, and reads one that is absent as INT8 "
        "where ONNX says UINT8.",
        sources.PARSER,
        "calibrate symmetrically, with INT8 zero-points of 0",
        qparams.zero_point,
    ),
    Rule(
        "code-type",
        Severity.ERROR,
        "Q/DQ of UINT8, 16 bits or another type without arithmetic",
        "TensorRT refuses UINT8 weights. UINT8 activations it refuses or, in newer releases, reads as INT8 with no more than "
        "a line in its log: integers above 127 clip, half of the range is lost.",
        sources.PARSER,
        "quantize activations and weights to INT8",
        qparams.element_type,
    ),
    Rule(
        "scale-not-constant",
        Severity.ERROR,
        "scale that is computed at run time",
        "INT8 scales are fixed when the engine is built; only blocks of other types have scales at run time.",
        sources.TYPES,
        "calibrate statically, or fold constants",
        qparams.scale_not_constant,
    ),
    Rule(
        "scale-value",
        Severity.ERROR,
        "scale that is 0, negative, infinite or NaN",
        "TensorRT's parser refuses scales that are not above 0; infinite ones turn the tensor into NaN. A scale of 0 "
        "comes from a channel without values, or from float16, where 3e-8 is already 0.",
        sources.PARSER,
        "calibrate again; give dead channels a small positive scale that float16 holds",
        qparams.scale_value,
    ),
    Rule(
        "scale-float16",
        Severity.ERROR,
        "float16 scale below the smallest normal number (6.1e-05)",
        "Such a scale has lost up to all of its digits, and is 0 where subnormal numbers are flushed.",
        sources.PARSER,
        "raise the scale to 6.104e-05 before it is cast, or keep this layer's scales float32",
        qparams.scale_float16,
    ),
    Rule(
        "activation-axis",
        Severity.ERROR,
        "scale per channel on an activation",
        "TensorRT has scales per channel for weights alone; activations have one scale for the whole tensor.",
        sources.TYPES,
        "calibrate the activation per tensor",
        axes.activation_axis,
    ),
    Rule(
        "weight-axis",
        Severity.ERROR,
        "scales along an axis of another size, or not along the output channels",
        "An absent axis means 1, but the output channels of a convolution are axis 0 (of a transposed one, 1): the parser "
        "refuses what does not fit, and what fits by chance scales the wrong channels.",
        sources.PARSER,
        "write the axis of the output channels on Q and DQ",
        axes.weight_axis,
    ),
    Rule(
        "blocked-scales",
        Severity.ERROR,
        "scale per block of 8-bit integers",
        "TensorRT has blocks for INT4, FP4 and MXFP8 only; INT8 takes one scale per tensor or per channel.",
        sources.TYPES,
        "quantize with one scale per output channel",
        axes.blocked,
    ),
    Rule(
        "quantized-bias",
        Severity.ERROR,
        "bias behind a DequantizeLinear, INT32",
        "DequantizeLinear takes INT32 in ONNX but not in TensorRT, whose parser ends there ('only activation types allowed "
        "as input to this layer'); the engine quantizes biases by itself.",
        sources.BIAS,
        "leave biases float (ONNX Runtime: extra_options={'QuantizeBias': False})",
        layers.bias,
    ),
    Rule(
        "half-quantized",
        Severity.ERROR,
        "layer with only its weight or only its activation quantized",
        "An INT8 kernel needs both inputs in INT8. With one of them the layer runs in float and loses accuracy for nothing.",
        sources.PLACEMENT,
        "quantize both inputs of the layer, or neither",
        layers.half_quantized,
    ),
    Rule(
        "grouped-convolution",
        Severity.ERROR,
        "quantized grouped convolution with groups of no multiple of 4 channels",
        "TensorRT asks for groups of a multiple of 4 channels in INT8, for input and output.",
        sources.GROUPS,
        "leave this convolution float",
        layers.grouped,
    ),
)

_WARNINGS = (
    Rule(
        "no-quantization",
        Severity.WARNING,
        "file without Q and DQ",
        "An engine built from it runs in float throughout.",
        sources.PLACEMENT,
        "calibrate the model and export that",
        file.no_quantization,
    ),
    Rule(
        "other-precision",
        Severity.WARNING,
        "Q/DQ of INT4, FP4 or FP8",
        "TensorRT reads them, but INT4 and FP4 only as weights of matrix products, and each only on newer GPUs; none of "
        "the INT8 rules holds for them.",
        sources.TYPES,
        "see that the GPU has this type, or quantize to INT8",
        qparams.other_precision,
    ),
    Rule(
        "contrib-operator",
        Severity.WARNING,
        "Q and DQ of the domain com.microsoft",
        "They belong to ONNX Runtime; other engines need not know them.",
        sources.ONNX,
        "quantize with the standard operators (ONNX Runtime: opset 21, UseQDQContribOps off)",
        file.contrib_operators,
    ),
    Rule(
        "duplicate-quantizer",
        Severity.WARNING,
        "tensor that several QuantizeLinear read",
        "The engine quantizes the tensor once for each, and keeps each result.",
        sources.PROPAGATION,
        "quantize the tensor once and let all readers share it",
        pairs.duplicates,
    ),
    Rule(
        "unlike-pair",
        Severity.WARNING,
        "DequantizeLinear with other qparams than its QuantizeLinear",
        "The pair then changes the tensor's values, which hardly anybody means.",
        sources.ONNX,
        "give both the same scale and zero-point",
        pairs.pairs,
    ),
    Rule(
        "differing-scales",
        Severity.WARNING,
        "several scales among the tensors of a Concat, a max-pool, a resize or an Add",
        "Q and DQ move across what only moves values; where its tensors have different scales the engine converts between "
        "them. NVIDIA's YOLOv7 went from 180 to 207 images per second when they became one.",
        sources.CONCAT,
        "give all tensors of the group one scale",
        sharing.differing_scales,
    ),
    Rule(
        "inside-activation",
        Severity.WARNING,
        "Q/DQ between a convolution and its batch-norm, ReLU or SiLU",
        "The engine fuses these into one kernel; a pair between them forbids it and rounds once more.",
        sources.PLACEMENT,
        "quantize inputs of layers, not their outputs",
        pairs.inside_activation,
    ),
    Rule(
        "unquantized-residual",
        Severity.WARNING,
        "Add behind a quantized convolution with two float inputs",
        "The engine fuses convolution, Add and the Q behind it only when the residual input is INT8; otherwise the "
        "convolution gives float and the Q stands alone.",
        sources.PLACEMENT,
        "quantize the residual input with the scale of its tensor",
        residual.unquantized_residual,
    ),
    Rule(
        "float-island",
        Severity.WARNING,
        "float layers between quantized ones",
        "Each crossing from INT8 to float and back moves the whole tensor once more.",
        sources.PLACEMENT,
        "quantize them too, or see that the accuracy they keep is worth it",
        layers.islands,
    ),
    Rule(
        "fp32-remainder",
        Severity.WARNING,
        "FP32 work between quantized layers",
        "Strongly typed engines run float layers as the file types them. Between INT8 layers FP32 moves twice the bytes of FP16; "
        "Ultralytics measured 17 to 18 % of the latency for a remainder in FP32.",
        sources.REMAINDER,
        "export for the target tensorrt, which writes FP16 there, or with `half`",
        precision.fp32_remainder,
    ),
    Rule(
        "concat-channels",
        Severity.WARNING,
        "quantized parts of a concat that start inside a block of 32 channels",
        "INT8 tensors lie in blocks of 32 channels. Parts that share a scale are written in place only where each starts with a "
        "block; the others are copied.",
        sources.BLOCKS,
        "choose widths of a multiple of 32 when the model is trained, or let the copies be: the predicted engine tells what they cost",
        precision.concat_channels,
    ),
    Rule(
        "head-output",
        Severity.WARNING,
        "Q/DQ behind the last layer",
        "Nothing runs in integers there; boxes up to 640 and scores up to 1 share 256 steps.",
        sources.HEAD,
        "end quantization before the head's decoding",
        head.head_output,
    ),
    Rule(
        "head-layer",
        Severity.WARNING,
        "quantized convolutions that give the predictions, quantized DFL",
        "They cost most of the accuracy for a small share of the time.",
        sources.HEAD,
        "leave the last convolution of each branch and the DFL float",
        head.head_layer,
    ),
    Rule(
        "depthwise",
        Severity.WARNING,
        "quantized depthwise convolution",
        "INT8 has little to win there, some releases have no kernel for it with SiLU, others run it slower than FP16.",
        sources.DEPTHWISE,
        "leave it float, or measure it",
        layers.depthwise,
    ),
    Rule(
        "channel-alignment",
        Severity.WARNING,
        "quantized convolution with channels of no multiple of 16",
        "INT8 kernels work on 16 channels at a time (32 in the vectorized and the sparse formats); the rest is padded.",
        sources.ALIGNMENT,
        "choose widths of a multiple of 16, better 32, when the model is trained, or leave the layer float",
        layers.alignment,
    ),
)

_NOTES = (
    Rule(
        "other-target",
        Severity.NOTE,
        "file for an engine that takes zero-points",
        "A file names the target that it was calibrated for. One for OpenVINO has zero-points that are not 0, as its kernels "
        "take them; it is not meant for TensorRT, whose parser refuses it.",
        sources.PARSER,
        "build it for its target; for TensorRT calibrate for the target tensorrt",
        qparams.other_target,
    ),
    Rule(
        "scale-underflow",
        Severity.NOTE,
        "float32 scale that float16 does not hold",
        "Baked to float16 it becomes 0, subnormal or infinite, which the parser refuses or rounds away.",
        sources.PARSER,
        "raise it to 6.104e-05 when the file is baked to float16",
        qparams.scale_underflow,
    ),
)

RULES: tuple[Rule, ...] = (*_ERRORS, *_WARNINGS, *_NOTES)
"""All rules, errors first."""
