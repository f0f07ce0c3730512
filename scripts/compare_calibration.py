"""Which calibration method is best for my model? Compare them all by COCO mAP, then calibrate with the winner.

    python scripts/compare_calibration.py yolov8n.pt --data coco.yaml --out runs/mine

Takes every argument of `yoloqat compare`. Results: OUT/compare/result.json and OUT/calibrate/model.safetensors. An interrupted
run goes on where it stopped when the same line is typed again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from yoloqat.cli import main


def run(argv: list[str]) -> int:
    """Compare, then calibrate by the best method; return the exit code of the first step that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/calibration"), help="where results go (default: %(default)s)"
    )
    parser.add_argument("--methods", help="comma-separated list, as for `yoloqat compare`")
    args, rest = parser.parse_known_args(argv)
    methods = ["--methods", args.methods] if args.methods else []
    code = main(["compare", *rest, *methods, "--out", str(args.out / "compare")])
    if code:
        return code
    best = json.loads((args.out / "compare" / "result.json").read_text(encoding="utf-8"))["results"]["recommended"]
    return main(["calibrate", *rest, "--method", best, "--out", str(args.out / "calibrate")])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
