"""Float sets of the search against those of simpler rules: the noise at equal measured latency, with paired intervals.

    python benchmarks/search.py CHECKPOINT --data coco_val.yaml --imgsz 320 --images 32 --points 5 --out runs/search-320

The rules order the layers: by their signal to quantization noise ratio, by their share of the noise budget, by the mAP scan where
``--scan`` names its directory, and "first and last" from both ends of the network inwards. Of each order several numbers of float
layers are built. For each engine so made the search gives the set of least noise within the latency of that engine, by the table
corrected with what was measured. Engines are timed in turn; the noise is measured on images that no order was made on. Of each
pair the difference of the noises, rule minus search, has a paired 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import load_dataset, read_batches, spread
from yoloqat.detectors import torch_threads
from yoloqat.evaluation.fidelity import NOISE, mean
from yoloqat.evaluation.reference import Reference
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import BUDGET, budget_figures, divided
from yoloqat.pipeline.search_engines import Engines
from yoloqat.pipeline.search_torch import SearchedCheckpoint
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.provenance import write_json
from yoloqat.quant.graph import Executor
from yoloqat.searching import least_noise
from yoloqat.searching.latency import make_problem
from yoloqat.sensitivity.edges import active_edges
from yoloqat.sensitivity.items import make_items
from yoloqat.sensitivity.noise import NoiseScan
from yoloqat.sensitivity.proxies import edge_noise, joined
from yoloqat.sensitivity.settings import ScanConfig

SLOWER = 1.01
"""A set of the search may be slower than the rule's by this factor: what two timings of one engine differ by."""


def main() -> None:
    """Run the benchmark and write ``search.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a calibrated checkpoint for OpenVINO")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=64, help="one half orders, the other measures")
    parser.add_argument("--points", type=int, default=5, help="float sets of each rule")
    parser.add_argument("--budget", type=Path, help="directory of a noise budget (default: measured here)")
    parser.add_argument("--scan", type=Path, help="directory of `sensitivity` with its mAP scan")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    run = Run(args.out, torch.device("cpu"), args.threads)
    config = EvalConfig(imgsz=args.imgsz, batch=8)
    choosing, measuring = divided(spread(load_dataset(args.data).images, args.images))
    model = SearchedCheckpoint(args.model, run)
    engines = Engines(model, config, run=run, rounds=args.rounds)
    with torch_threads(args.threads):
        if args.budget is not None:
            budget = json.loads((args.budget / "result.json").read_text(encoding="utf-8"))["results"]
        else:
            inner = Run(args.out / BUDGET, run.device, run.threads)
            budget = model.budget(choosing, config, options=ScanOptions(), run=inner)
        d, shares = budget_figures(budget, model.state)
        problem = make_problem(engines.groups, shares, d, engines.table(), engines.passing)
        orders = rules(args, model.detector, engines, shares, choosing, config)
        reference = Reference(engines.float_predictor, measuring, engines.config, detections=False)
        everything = len(engines.layers)
        counts = sorted({round(everything * step / (args.points + 1)) for step in range(1, args.points + 1)})
        sets = {(rule, count): tuple(order[:count]) for rule, order in orders.items() for count in counts}
        values = {key: engines.fidelity(own, reference, str(key)).measures[NOISE] for key, own in sets.items()}
        print("built", len(sets), "sets of the rules", flush=True)
        took = dict(zip(sets, engines.latencies(list(sets.values())), strict=True))
        rows = []
        for rule, count in sets:
            limit, asked, found = took[rule, count], took[rule, count], None
            for _ in range(4):
                candidate = least_noise(problem, asked)
                if candidate is None:
                    break
                (ms,) = engines.latencies([candidate.layers])
                if ms <= SLOWER * limit:
                    found = candidate, ms
                    break
                asked = min(candidate.latency_ms * limit / ms, 0.99 * candidate.latency_ms)
            row = {"rule": rule, "float_layers": count, "ms": limit, "d": mean(values[rule, count]).value}
            if found is not None:
                theirs = engines.fidelity(found[0].layers, reference, "search").measures[NOISE]
                change = mean(values[rule, count] - theirs)
                row |= {
                    "search_layers": len(found[0].layers),
                    "search_ms": found[1],
                    "search_ms_predicted": found[0].latency_ms,
                    "search_d": mean(theirs).value,
                    "search_d_predicted": found[0].d,
                    **change.to_dict("won"),
                    "better": change.low > 0.0,
                    "worse": change.high < 0.0,
                }
            rows.append(row)
            print(row, flush=True)
            write_json(
                args.out / "search.json", {"rows": rows, "images": len(measuring), "table": engines.table().to_dict()}
            )
        compared = [row for row in rows if "won" in row]
        better, worse = (sum(bool(row[name]) for row in compared) for name in ("better", "worse"))
        print(
            f"of {len(rows)} points: {better} better, {worse} worse, {len(rows) - len(compared)} without a set as fast"
        )


def rules(args, detector, engines, shares, choosing, config):  # noqa: ANN001, ANN201
    """Return the layers in the order in which each rule leaves them float."""
    layers = list(engines.layers)
    scan = NoiseScan(
        detector, choosing[:8], config=config, scan=ScanConfig(), device=torch.device("cpu"), memory=1 << 30
    )
    edges = active_edges(detector.module)
    batch = next(iter(read_batches([scan.batches[0]])))
    images = torch.from_numpy(batch.images).to(memory_format=torch.channels_last)
    executor = Executor(detector.module, scan.traced(images))
    noises = edge_noise(executor, edges, images, classes=detector.info.classes)
    nmse = {item.name: joined(noises, item.edges).nmse for item in make_items(edges, ScanConfig())}
    ends = [layers[index // 2 if index % 2 == 0 else -1 - index // 2] for index in range(len(layers))]
    found = {
        "sqnr": sorted(layers, key=lambda name: -nmse[name]),
        "budget order": sorted(layers, key=lambda name: -shares.get(name, 0.0)),
        "first and last": list(dict.fromkeys(ends)),
    }
    if args.scan is not None:
        items = json.loads((args.scan / "result.json").read_text(encoding="utf-8"))["results"]["items"]
        found["mAP scan"] = list(dict.fromkeys(layer for item in items for layer in item["layers"]))
    return found


if __name__ == "__main__":
    main()
