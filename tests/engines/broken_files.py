"""OpenVINO directories and engine headers broken in one place each."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator

NUMBERS = ("0", "-1", "7", "4294967296", "9223372036854775807", "1e9", "nan", "text", "", "1,2", "1,1099511627776,3,3")
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12)
)
JSON = ("null", "[]", "{}", "-1", "1e400", "NaN", '"text"', '{"0": null}', "[1]", "true", "[" * 5000)


def _damaged(whole: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return whole[: rng.randrange(len(whole))]
    damaged = bytearray(whole)
    for _ in range(rng.choice([1, 3, 20])):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def _attribute(text: str, rng: random.Random) -> str:
    """Give one attribute of the XML another value, or another name, or drop an element."""
    place = rng.choice(list(re.finditer(r'(\w+)="([^"]*)"', text)))
    values = [*NUMBERS, rng.choice(re.findall(r'="([^"]*)"', text))]
    replaced = rng.choice(
        [f'{place[1]}="{rng.choice(values)}"', f'{place[1]}="{rng.choice(values)}"', f'odd="{place[2]}"']
    )
    return text[: place.start()] + replaced + text[place.end() :]


def _element(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def broken_directories(files: dict[str, bytes], *, each: int, seed: int = 0) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Return ``each`` directories of every kind of break, each with a name.

    Args:
        files: Those of a good directory: an ``.xml``, a ``.bin`` and the metadata.
        each: Cases of a kind.
        seed: Of all choices.
    """
    xml = next(name for name in files if name.endswith(".xml"))
    for name in files:
        yield f"without {name}", {key: data for key, data in files.items() if key != name}
        yield f"empty {name}", files | {name: b""}
        for index in range(each):
            rng = random.Random(f"{seed} {name} {index}")
            yield f"damaged {name} {index}", files | {name: _damaged(files[name], rng)}
    text = files[xml].decode()
    for index in range(each):
        rng = random.Random(f"{seed} {index}")
        for change in (_attribute, _attribute, _attribute, _element):
            yield f"{change.__name__} {index}", files | {xml: change(text, rng).encode()}
    bombed = text.replace("<net ", f"{BOMB}]><net ", 1).replace('name="', 'name="&m;', 1)
    yield "bomb", files | {xml: bombed.encode()}
    outside = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><net '
    yield "outside entity", files | {xml: text.replace("<net ", outside, 1).replace('name="', 'name="&e;', 1).encode()}
    metadata = next((name for name in files if name.endswith(".json")), None)
    for key in json.loads(files[metadata]) if metadata else ():
        for value in random.Random(f"{seed} {key}").sample(JSON, min(len(JSON), 2 * each)):
            yield f"{key} is {value[:10]}", files | {metadata: _with_value(files[metadata], key, value)}  # type: ignore[dict-item]


def _with_value(document: bytes, key: str, value: str) -> bytes:
    """Return a JSON document whose entry ``key`` is the text ``value``, which need not be JSON."""
    return json.dumps({**json.loads(document), key: "@"}).replace('"@"', value, 1).encode()


def broken_engines(metadata: dict[str, object], *, each: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Return engine files with broken headers, each with a name."""
    head = json.dumps(metadata).encode()
    whole = len(head).to_bytes(4, "little") + head + b"plan" * 8
    yield "empty", b""
    for length in (0, 1, len(head) - 1, len(head) + 1, len(head) + 32, len(whole), 2**31, 2**32 - 1):
        yield f"length {length}", length.to_bytes(4, "little") + head + b"plan" * 8
    for index in range(each):
        yield f"damaged {index}", _damaged(whole, random.Random(f"{seed} {index}"))
    for key in metadata:
        for value in JSON:
            changed = _with_value(head, key, value)
            yield f"{key} is {value[:10]}", len(changed).to_bytes(4, "little") + changed + b"plan"
