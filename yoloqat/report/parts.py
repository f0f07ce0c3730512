"""What a report is made of, before it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yoloqat.results import Table

Results = Mapping[str, Any]
"""The ``results`` of a ``result.json``, as read."""


@dataclass(frozen=True)
class Fact:
    """One number to see at once.

    Attributes:
        label: What it is.
        value: The number, as text.
        note: Below it, e.g. its interval.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        title: Above it.
        spec: Vega-Lite, JSON-able, without colours of its own: those are the page's.
        about: What is seen there, in a sentence, for those who do not see it.
    """

    title: str
    spec: dict[str, Any]
    about: str


@dataclass(frozen=True)
class Block:
    """A layer in the map of the network.

    Attributes:
        name: Its name inside its stage.
        kind: ``"int8"``, ``"float"`` or ``"other"``, which decides its colour.
        about: Whole name, type, precision, multiply-adds.
        weight: Its share of the multiply-adds of its stage, 0 to 1, which decides its width.
    """

    name: str
    kind: str
    about: str
    weight: float


@dataclass(frozen=True)
class Stage:
    """A row of the map of the network.

    Attributes:
        name: Of the module that holds the layers.
        about: How many run in INT8, and their share of all multiply-adds.
        blocks: The layers in the order of execution.
    """

    name: str
    about: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Picture:
    """Pictures of one image, side by side.

    Attributes:
        title: The image.
        about: What is seen there.
        tiles: Of each the heading, the picture as a ``data:`` address, and what is seen for those who do not see it.
    """

    title: str
    about: str
    tiles: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        title: Its heading.
        text: A paragraph below the heading.
        facts: Numbers to see at once.
        charts: Plots.
        stages: The map of the network, from input to output.
        pictures: The gallery.
        legend: Colour and meaning of what is drawn in the gallery.
        tables: Shown below the plots.
        folded: Tables behind a click.
        notes: Lines of text below all.
        histograms: Those of the quantizers of each item, shown where its bar is pointed at and where its name is clicked;
            JSON-able, in the form that ``templates/histogram.js`` reads.
    """

    title: str
    text: str = ""
    facts: tuple[Fact, ...] = ()
    charts: tuple[Chart, ...] = ()
    stages: tuple[Stage, ...] = ()
    pictures: tuple[Picture, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    histograms: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The report of one ``result.json``.

    Attributes:
        title: The command and the model.
        place: The directory, where several reports are joined.
        verdict: What was found, in one sentence.
        warnings: What was read otherwise than it may be meant.
        sections: The parts, in the order they are read.
        about: Settings and provenance, folded away: name and text of each.
    """

    title: str
    place: str
    verdict: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    about: tuple[tuple[str, str], ...]
