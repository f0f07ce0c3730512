"""Draw the picture of README and docs from a recorded noise budget.

    python scripts/readme_picture.py                                   # docs/images/noise_budget.png from the record beside it
    python scripts/readme_picture.py --run runs/noise/result.json      # first make the record of a run

The run: yoloqat sensitivity yolov8n.pt --images val2017 --imgsz 320 --threads 1 --mode noise --out runs/noise
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloqat.provenance import write_json
from yoloqat.report.plots import budget_plot

RECORD = Path(__file__).resolve().parents[1] / "docs" / "images" / "noise_budget.json"
PROVENANCE = ("yoloqat", "python", "processor", "cores", "device", "threads", "seed", "packages")
RESULTS = (
    *("d", "d_ci95", "d_predicted", "images", "curve_images", "curve_held_out"),
    *("ignore", "ignore_reason", "expected_relative_drop", "expected_relative_drop_band"),
)
ITEM = ("name", "d", "d_ci95", "share", "share_ci95")
POINT = ("float_layers", "items", "d_estimated", "int8_mac_share", "d", "d_ci95")


def record_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is drawn and told of a run: no path, no quantizer.

    Args:
        result: The ``result.json`` of ``yoloqat sensitivity --mode noise``.
    """
    results = result["results"]
    kept = {name: results[name] for name in RESULTS if name in results}
    kept["items"] = [{name: item[name] for name in ITEM} for item in results["items"]]
    kept["curve"] = [{name: point[name] for name in POINT if name in point} for point in results["curve"]]
    provenance = {name: result["provenance"][name] for name in PROVENANCE}
    provenance["command_line"] = re.sub(r"\S*/", "", result["provenance"]["command_line"])
    return {
        "schema": result["schema"],
        "command": result["command"],
        "config": {"evaluation": result["config"]["evaluation"]},
        "provenance": provenance,
        "results": kept,
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture of a record as a PNG."""
    results, imgsz = record["results"], record["config"]["evaluation"]["imgsz"]
    model = Path(record["provenance"]["command_line"].split()[2]).stem
    low, high = results["d_ci95"]
    title = (
        f"{model}, INT8, {imgsz} px: noise d {results['d']:.3f} [{low:.3f}, {high:.3f}] on {results['images']} images"
    )
    title += "; its layers alone, and what is left as the first of them stay float"
    budget_plot(results, title=title).save(path)


def run(argv: Sequence[str] | None = None) -> int:
    """Make the record where a run is named, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="result.json of a run to record")
    parser.add_argument("--record", type=Path, default=RECORD, help="the record (default: that of the repository)")
    args = parser.parse_args(argv)
    if args.run is not None:
        write_json(args.record, record_of(json.loads(args.run.read_text(encoding="utf-8"))))
    picture = args.record.with_suffix(".png")
    draw(json.loads(args.record.read_text(encoding="utf-8")), picture)
    print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(run())
