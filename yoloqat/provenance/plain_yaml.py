"""YAML from strangers: read as plain data, and refused where reading it would not end or would fill the memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

MOST_CHARACTERS = 1 << 24
"""Of the scalars of a file once its aliases are written out; each node counts for one more."""

LONGEST_SCALAR = 1 << 16
"""Characters; numbers are converted in a time that grows with the square of their length."""


def parse_yaml(text: str) -> tuple[Any, tuple[str, ...]]:
    """Read a YAML document whose tags make nothing but plain values.

    Args:
        text: The document.

    Returns:
        Its value, None where it is empty, and the keys that a mapping has more than once, of which the last counts.

    Raises:
        ValueError: It is no YAML, has a tag that is not plain, holds itself, is nested too deeply or too large.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, ()
        repeated: dict[str, None] = {}
        _weigh(node, {}, repeated)
        return loader.construct_document(node), tuple(repeated)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"a value is unfit: {error}") from error  # a date or number that there is not


def _weigh(node: yaml.Node, known: dict[int, int], repeated: dict[str, None]) -> int:
    """Return how many characters a node is once its aliases are written out; collect keys that a mapping repeats."""
    size = known.get(id(node))
    if size == 0:
        raise yaml.YAMLError("it holds itself")
    if size is not None:
        return size
    known[id(node)] = 0
    size, children = 1, []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
        keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated.update(dict.fromkeys(key for (_, key), count in keys.items() if count > 1))
    else:
        size += len(node.value)
        if size > LONGEST_SCALAR:
            raise yaml.YAMLError(f"it has a value of {len(node.value)} characters")
    for child in children:
        size += _weigh(child, known, repeated)
        if size > MOST_CHARACTERS:
            raise yaml.YAMLError(f"it has more than {MOST_CHARACTERS} characters once its aliases are written out")
    known[id(node)] = size
    return size
