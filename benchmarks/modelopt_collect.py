"""NVIDIA ModelOpt's histogram calibrator on tensors in files; run by calibration.py with the interpreter that has ModelOpt.

Needs torch, NumPy and nvidia-modelopt, not yoloqat. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import modelopt
import numpy as np
import torch
from modelopt.torch.quantization.calib import HistogramCalibrator

METHODS = ("entropy", "mse", "percentile")


def main() -> None:
    """Collect, search, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="NUMBER-NAME.npy, in the order of collection")
    parser.add_argument("--search", type=int, default=3, help="tensors to search amax of")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    calibrators: dict[str, HistogramCalibrator] = {}
    collected = 0.0
    for path in sorted(args.folder.glob("*.npy")):
        tensor = torch.from_numpy(np.load(path))
        name = path.stem.partition("-")[2]
        calibrator = calibrators.setdefault(name, HistogramCalibrator(8, None, False))
        start = time.perf_counter()
        calibrator.collect(tensor)
        collected += time.perf_counter() - start
    search: dict[str, float] = {}
    searched = list(calibrators.values())[: args.search]
    for method in METHODS:
        start = time.perf_counter()
        try:
            for calibrator in searched:
                calibrator.compute_amax(method)
        except (RuntimeError, AssertionError) as error:  # its search by mse moves the histogram to CUDA
            print(f"{method}: {error}")
            continue
        search[method] = (time.perf_counter() - start) / len(searched)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"version": modelopt.__version__, "collect_seconds": collected, "search_seconds": search, "peak_mb": peak}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
