"""TensorRT's layers and times as trtexec logs them, of 8, 10 and 11.

Source: the lines that `trtexec --verbose`, `--dumpLayerInfo` and `--dumpProfile` write. Three forms of a layer are known:
``Layer(Type): name, Tactic: t, in[Half(1,2)] -> out[Int8(1,2)]`` of 8.0 to 8.4, the same with ``in (Half[1,2])`` from 8.5 on,
and ``Name: n, LayerType: t, Inputs: [ { Name: in, ... } ], Outputs: [ ... ], ...`` with detailed verbosity. A profile
has the layer first up to 8.5 and last from 8.6 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from yoloqat.engines.reading.layer import Layer, Tensor, nodes_of, shape_of, type_of
from yoloqat.engines.reading.trt_json import metadata_nodes

_PREFIX = re.compile(r"^(?:\[(?:[VIWEF]|TRT|TensorRT|\d\d/\d\d/\d{4}-[\d:]+)\] ?)*(?:[A-Z]+: )?")
_HEAD = re.compile(r"(?:^|\s)(?:Engine Layer Information|Layers):\s*$")
_SHORT = re.compile(
    r"^Layer\((?P<type>[^)]*)\): (?P<name>.*), Tactic: (?P<tactic>.*?), ?(?P<inputs>.*?) ?-> (?P<outputs>.*)$"
)
_SHORT_TENSOR = re.compile(
    r"(?:^|, )(?P<name>(?:(?!, ).)*?)(?: \((?P<new>[A-Z]\w*)\[(?P<sides>[^\]]*)\]\)|\[(?P<old>[A-Z]\w*)\((?P<olds>[^)]*)\)\])"
)
_LONG = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>.*?), Inputs: \[(?P<inputs>.*?)\], Outputs: \[(?P<rest>.*)$"
)
_LONG_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<sides>.*?)\](?=, | ?\})(?P<rest>[^{}]*)\}"
)
_TACTIC_NAME = re.compile(r"\bTacticName: ([^,]*)")
_METADATA = re.compile(r"\bMetadata: (.*)$")
_WEIGHTS = re.compile(r"\bWeights: \{ ?\"?Type\"?: \"?(\w+)")
_TYPE = re.compile(r"Data[Tt]ype: ([^,}]*)")
_FORMAT = re.compile(r"\bFormat(?:/Data[Tt]ype)?: ([^,}]*)")
_NUMBER = r"[\d.]+(?:e[-+]?\d+)?"
_PROFILE = re.compile(r"=== Profile \(")
_LAYER_LAST = re.compile(rf"^\s*{_NUMBER}\s+({_NUMBER})\s+({_NUMBER})\s+{_NUMBER}\s+(\S.*)$")
_LAYER_FIRST = re.compile(rf"^\s*(\S.*?)\s+{_NUMBER}\s+({_NUMBER})(?:\s+({_NUMBER}))?\s+{_NUMBER}$")


def log_layers(lines: Iterable[str]) -> list[Layer]:
    """Return the layers of the last engine that a log tells of, in order; none where it tells of none."""
    blocks: list[list[Layer]] = [[]]
    for line in lines:
        text = _PREFIX.sub("", line.rstrip("\r\n"))
        if _HEAD.search(text):
            blocks.append([])
            continue
        layer = _layer(text.strip())
        if layer is not None:
            blocks[-1].append(layer)
    return next((block for block in reversed(blocks) if block), [])


def log_times(lines: Iterable[str]) -> list[tuple[str, float]]:
    """Return name and milliseconds of each layer of the last profile in a log; the median where it is told."""
    found: list[tuple[str, float]] = []
    inside = False
    for line in lines:
        text = _PREFIX.sub("", line.rstrip("\r\n"))
        if _PROFILE.search(text):
            inside, found = True, []
            continue
        entry = _time(text) if inside else None
        if entry is not None:
            inside = entry[0] != "Total"
            found += [entry] if inside else []
    return found


def _time(text: str) -> tuple[str, float] | None:
    last = _LAYER_LAST.match(text)
    if last:
        return last[3].strip(), float(last[2])
    first = _LAYER_FIRST.match(text)
    return (first[1], float(first[3] or first[2])) if first else None


def _layer(text: str) -> Layer | None:
    short = _SHORT.match(text)
    if short:
        name = short["name"]
        inputs, outputs = (tuple(_short_tensors(short[side])) for side in ("inputs", "outputs"))
        return Layer(name, short["type"], inputs, outputs, nodes_of(name), short["tactic"])
    long = _LONG.match(text)
    if not long:
        return None
    name, rest = long["name"], long["rest"]
    inputs, outputs = (tuple(_long_tensors(part)) for part in (long["inputs"], rest))
    tactic, metadata, weights = (pattern.search(rest) for pattern in (_TACTIC_NAME, _METADATA, _WEIGHTS))
    nodes = metadata_nodes(metadata[1]) if metadata else ()
    return Layer(
        name,
        long["type"],
        inputs,
        outputs,
        nodes or nodes_of(name),
        tactic[1] if tactic else "",
        type_of(weights[1]) if weights else "unknown",
    )


def _short_tensors(text: str) -> Iterable[Tensor]:
    for found in _SHORT_TENSOR.finditer(text):
        yield Tensor(
            found["name"], type_of(found["new"] or found["old"]), "", shape_of(found["sides"] or found["olds"])
        )


def _long_tensors(text: str) -> Iterable[Tensor]:
    for found in _LONG_TENSOR.finditer(text):
        kind, laid = _TYPE.search(found["rest"]), _FORMAT.search(found["rest"])
        yield Tensor(
            found["name"],
            type_of(kind[1]) if kind else "unknown",
            laid[1].strip() if laid else "",
            shape_of(found["sides"]),
        )
