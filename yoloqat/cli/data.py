"""Fetch a data set from its own server: the official COCO files.

Fetches the validation images of COCO 2017 with their annotations (1.1 GB), with --train the training images too (another
19 GB), checks and unpacks them, and writes coco.yaml for --data of the other commands. What is finished is not fetched
again, and an interrupted fetch goes on where it stopped. Without a network, put the official zip files into --out by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli.command import LightCommand, Outcome
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.next_line import next_line
from yoloqat.datasets.download_coco import YAML, obtain
from yoloqat.datasets.download_source import COCO2017
from yoloqat.progress import Progress
from yoloqat.results import Table

SOURCES = {"coco-val2017": COCO2017}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(SOURCES), metavar="NAME", help="coco-val2017")
    parser.add_argument("--train", action="store_true", help="fetch the training split too, to calibrate on")
    parser.add_argument(
        "--mirror", metavar="BASE", help=f"another server that holds the same files (default: {COCO2017.base})"
    )


def _run(args: argparse.Namespace, out: Path, progress: Progress) -> Outcome:
    source = SOURCES[args.name].at(args.mirror)
    obtained = obtain(source, out, train=args.train, progress=progress)
    rows, parts = [], []
    for item in obtained:
        for part in item.archive.parts:
            parts.append({"path": part.target, "files": part.files, "split": part.split, "archive": item.archive.name})
            rows.append((part.target, str(part.files), item.origin, f"{item.received / 1e6:.1f}"))
    archives = [
        {
            "name": item.archive.name,
            "url": source.url(item.archive),
            "md5": item.archive.md5,
            "bytes": item.archive.size,
            "origin": item.origin,
            "received": item.received,
        }
        for item in obtained
    ]
    results = {"yaml": str(out / YAML), "parts": parts, "archives": archives}
    config = {"name": args.name, "train": args.train, "base": source.base}
    return Outcome(
        config,
        results,
        tables=[Table(f"{args.name} in {out}", ("part", "files", "archive", "received, MB"), tuple(rows))],
        files=[YAML, *(part.target for item in obtained for part in item.archive.parts)],
        next=[next_line(args, COMMANDS["eval"].load(), "yolov8n.pt", data=out / YAML)],
    )


COMMAND = LightCommand("data", __doc__ or "", _arguments, _run, files=(YAML,), continues=("train", "mirror"))
