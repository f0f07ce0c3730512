"""Cost and agreement of the exact, the adaptive and the naive sensitivity scan, in one run.

    python benchmarks/sensitivity.py model.safetensors --data coco.yaml --imgsz 320 --images 64

The naive scan evaluates the whole model for each item, as one does by hand; it is timed on --naive-chunks batches in turn with
the exact replay of the same batches, and each of its outputs on the first must equal the replay's to the last bit. The exact scan
then goes over all images; the adaptive one takes what it asks for out of the same results, so that both see the same numbers.
With --plant K, bits are first taken from K random layers until each alone costs 0.01 mAP on all images, over --seeds seeds, and
the adaptive scan must find them.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, load_dataset
from yoloqat.detectors import load_detector, save_checkpoint, torch_device, torch_threads
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions, run_scan
from yoloqat.provenance import write_json
from yoloqat.quant.graph import trace
from yoloqat.sensitivity.edges import OFF, active_edges, switched
from yoloqat.sensitivity.items import BASE
from yoloqat.sensitivity.proxies import rank_correlation
from yoloqat.sensitivity.ranking import measured
from yoloqat.sensitivity.replay import Replay, Switches
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.settings import MODES, ONE_AT_A_TIME, ScanConfig
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import work

LOSS = 0.01
"""What each planted layer costs alone, at least, on all images: a sensitive site, not only a coarse one."""

TRIED_ON = 4
"""Batches of images on which a layer must surely cost that much before it is tried on all."""


def plant(args: argparse.Namespace, dataset: DetectionDataset, config: EvalConfig, seed: int, path: Path) -> list[str]:
    """Take bits from some random layers until each costs something, save the model, and return the layers' names.

    The range of a layer is widened so that its steps are those of fewer bits. Only layers that share no scale are taken: of the
    others the trial would take bits that the planting cannot.
    """
    detector = load_detector(args.model)
    edges = active_edges(detector.module)
    users: dict[int, int] = {}
    for edge in edges:
        users[id(edge.quantizer)] = users.get(id(edge.quantizer), 0) + 1
    sharing = {edge.holder for edge in edges if users[id(edge.quantizer)] > 1}
    layers = sorted({edge.holder for edge in edges if edge.of_layer} - sharing)
    random.Random(seed).shuffle(layers)
    left: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        ladder = []
        for bits in (5, 4, 3, 2):
            scan = ScanConfig(mode=ONE_AT_A_TIME, bits=bits)
            scanner = Scanner(detector, dataset, config=config, scan=scan, device=torch_device(args.device))
            ladder.append((bits, scanner, Study(Path(folder) / f"{bits}.db", {})))
        for layer in layers:
            if len(left) < args.plant:
                found = next((bits for bits, *trial in ladder if _costs(*trial, layer)), None)
                left |= {} if found is None else {layer: found}
    for edge in edges:
        if edge.holder in left and edge.quantizer.amax is not None:
            scheme = edge.quantizer.scheme
            edge.quantizer.amax = edge.quantizer.amax * (scheme.high / replace(scheme, bits=left[edge.holder]).high)
    save_checkpoint(detector, path)
    return sorted(left)


def _costs(scanner: Scanner, study: Study, layer: str) -> bool:
    """Return whether a layer alone surely costs something on a few images, and does on all."""
    batches = range(len(scanner.batches))
    for part in (batches[:TRIED_ON], batches):
        study.want([BASE, layer], part)
        work(study, scanner)
        effect = measured(study, scanner).effect(study.results(layer))
        if (effect.interval[0] if part != batches else effect.effect) < LOSS:
            return False
    return True


def compare_forwards(scanner: Scanner, batches: int) -> dict[str, float]:
    """Check that the replay of every item equals the full forward, then time both as a scan of either kind runs them.

    Items are replayed one by one, then several together, then together for the class scores alone. All replays of a batch are
    timed in a row, then all full forwards of the same batch: in turn item by item each would find the other's memory and caches.
    Times are those of the processor, which neighbours disturb little, and of all threads together.
    """
    edges = {edge.name: edge for edge in scanner.edges}
    names = [item.name for item in scanner.items]
    scores = (4, 4 + scanner.detector.info.classes)
    kinds = {"one by one": {"width": 1}, "together": {}, "together, class scores alone": {"rows": scores}}

    def full(images: torch.Tensor, switches: Switches) -> torch.Tensor:
        with torch.inference_mode(), switched(scanner.detector.module, edges, switches):
            output = scanner.detector.module(images)
            return output if isinstance(output, torch.Tensor) else output[0]

    made: dict[tuple[int, ...], dict[str, Replay]] = {}
    seconds: dict[str, list[float]] = {}
    for batch in range(batches):
        images, _ = scanner.images(batch)
        shape = tuple(images.shape)
        if shape not in made:
            traced = trace(scanner.detector.module, images)
            made[shape] = {
                kind: Replay(
                    scanner.detector.module, traced, scanner.edges, base=scanner.base, items=scanner.switches, **setting
                )
                for kind, setting in kinds.items()
            }
            for kind, replay in [*made[shape].items()] * 2:  # the first batch runs one by one
                rows = slice(*(scores if "rows" in kinds[kind] else (None, None)))
                for name, output in replay.run(images, names, memory=1 << 40):
                    expected = full(images, scanner.base if name is None else scanner.switches[name])
                    if not torch.equal(output[:, rows], expected[:, rows]):
                        raise SystemExit(f"{name}, {kind}: the replay differs from the full forward")
        for kind, replay in made[shape].items():
            start = time.process_time()
            for name, _ in replay.run(images, names, memory=1 << 40):
                now = time.process_time()
                seconds.setdefault(f"base, {kind}" if name is None else kind, []).append(now - start)
                start = now
        off = dict.fromkeys(edges, OFF)
        for kind, switches in {"forward": None, "float forward": off, "quantized forward": {}}.items():
            for name in names if switches is None else names[:8]:
                start = time.process_time()
                full(images, scanner.switches[name] if switches is None else switches)
                seconds.setdefault(kind, []).append(time.process_time() - start)
    mean = {kind: statistics.mean(values) for kind, values in seconds.items()}
    alone, together = made[shape]["one by one"], made[shape]["together"]
    found = {f"{kind}, ms per chunk": mean[kind] * 1e3 for kind in ("forward", "float forward", "quantized forward")}
    for kind in kinds:
        for whole in ("forward", "float forward", "quantized forward"):
            found[f"replay {kind}, share of a {whole} per item"] = mean[kind] / mean[whole]
        shares = made[shape][kind].shares()
        found[f"replay {kind}, share of the multiply-adds"] = statistics.mean(shares[name] for name in names)
    return found | {
        "base run of the replay, share": mean["base, one by one"] / mean["forward"],
        "nodes that ran for several items": len({index for index, _ in together.together.checked}),
        "of them item by item, for the same bits": len({index for index, _ in together.together.parted}),
        "values kept, MB": alone.kept_bytes(names) / 1e6,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a calibrated .safetensors")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, help="take the first images only")
    parser.add_argument("--mode", choices=MODES, default=MODES[0])
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--naive-chunks", type=int, default=1)
    parser.add_argument("--plant", type=int, default=0, metavar="K")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--adaptive-only", action="store_true", help="leave the exhaustive scan out")
    parser.add_argument("--forwards-only", action="store_true", help="compare the forwards and scan nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="keep the studies here, so that an interrupted benchmark goes on")
    args = parser.parse_args()
    dataset = load_dataset(args.data)
    dataset = replace(dataset, images=dataset.images[: args.images])
    if args.images:
        kept = {record.image_id for record in dataset.images}
        own = [entry for entry in dataset.annotations["annotations"] if entry["image_id"] in kept]
        own_images = [entry for entry in dataset.annotations["images"] if entry["id"] in kept]
        dataset = replace(dataset, annotations=dataset.annotations | {"annotations": own, "images": own_images})
    config, scan = EvalConfig(imgsz=args.imgsz, batch=args.batch), ScanConfig(mode=args.mode)
    out = args.out or Path(tempfile.mkdtemp(prefix="yoloqat-benchmark-"))
    load_detector(args.model)  # importing Ultralytics changes the number of threads
    with torch_threads(args.threads):
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            _one(args, dataset, config, scan, seed=seed, out=out)


def _one(
    args: argparse.Namespace, dataset: DetectionDataset, config: EvalConfig, scan: ScanConfig, *, seed: int, out: Path
) -> None:
    checkpoint, planted = args.model, []
    if args.plant:
        checkpoint, names_file = out / f"planted-{seed}.safetensors", out / f"planted-{seed}.json"
        if not names_file.is_file():
            write_json(names_file, plant(args, dataset, config, seed, checkpoint))
        planted = json.loads(names_file.read_text(encoding="utf-8"))
    device = torch_device(args.device)
    top = args.plant or 10
    found: dict[str, object] = {"seed": seed, "planted": planted}
    if args.naive_chunks:
        scanner = Scanner(load_detector(checkpoint), dataset, config=config, scan=scan, device=device)
        found |= compare_forwards(scanner, args.naive_chunks)
    runs = {"adaptive": args.budget} if args.adaptive_only else {"adaptive": args.budget, "exact": None}
    runs = {} if args.forwards_only else runs
    names = {}
    for label, budget in runs.items():
        run = Run(out / f"{args.mode}-{seed}", device, args.threads)  # one study: what is finished is not done again
        options = ScanOptions(scan_cost=budget, top=top, seed=seed)
        results = run_scan(checkpoint, dataset, config, scan=scan, options=options, run=run).results
        names[label] = {item["name"]: item["effect"] for item in results["items"]}
        first = list(names[label])[:top]
        found[label] = {"timing": results["timing"], "seconds": results["seconds"], **results["summary"]}
        found[label] |= {"map": [results["baseline"]["map50_95"], results["quantized"]["map50_95"]]}
        if results["adaptive"]:
            found[label] |= {"adaptive": results["adaptive"]}
        if planted:
            found[label] |= {
                "planted_found": len(set(first) & set(planted)),
                "missed": sorted(set(planted) - set(first)),
            }
    if len(names) == 2:
        exact, adaptive = names["exact"], names["adaptive"]
        found["common_first"] = len(set(list(exact)[:top]) & set(list(adaptive)[:top]))
        found["rank_correlation"] = rank_correlation(
            [exact[name] for name in exact], [adaptive[name] for name in exact]
        )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
