"""Which layers cost my model its accuracy? Calibrate, rank them by noise and COCO mAP, and leave the worst in floating point.

    python scripts/sensitivity.py yolov8n.pt --data coco.yaml --out runs/mine

Takes every argument of `yoloqat sensitivity`, e.g. --mode noise for the noise alone, --scan-cost 0.1 for a tenth of the
exhaustive cost, or --workers 4. Results: OUT/scan/ (result.json, items.csv, budget.png, effects.png, ignore.txt), and
OUT/calibrate/model.safetensors with the layers of ignore.txt left float: those up to the knee of the noise curve, or as many as
--max-drop needs. An interrupted run goes on where it stopped when the same line is typed again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yoloqat.cli import main

_SCAN_ALONE = (
    "--mode",
    "--granularity",
    "--group",
    "--bits",
    "--metric",
    "--scan-cost",
    "--budget",
    "--map-top",
    "--max-drop",
    "--top",
    "--fidelity-images",
    "--workers",
    "--ray",
    "--replay-memory",
)


def run(argv: list[str]) -> int:
    """Scan, then calibrate without the layers of the ignore-list; return the exit code of the first step that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/sensitivity"), help="where results go (default: %(default)s)"
    )
    for option in _SCAN_ALONE:
        parser.add_argument(option, action="append", default=[], help=f"as for `yoloqat sensitivity {option}`")
    parser.add_argument("--base-bits", help="bits of the calibrated model (default: 8)")
    args, rest = parser.parse_known_args(argv)
    alone = [
        text
        for option in _SCAN_ALONE
        for value in getattr(args, option[2:].replace("-", "_"))
        for text in (option, value)
    ]
    bits = [] if args.base_bits is None else ["--base-bits", args.base_bits]
    scan = args.out / "scan"
    code = main(["sensitivity", *rest, *alone, *bits, "--out", str(scan)])
    if code:
        return code
    bits = [] if args.base_bits is None else ["--bits", args.base_bits]
    return main(
        ["calibrate", *rest, *bits, "--ignore", f"@{scan / 'ignore.txt'}", "--out", str(args.out / "calibrate")]
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
