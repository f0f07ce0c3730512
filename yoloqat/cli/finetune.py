"""Fine-tune a calibrated checkpoint (QAT): win back what calibration cannot.

Trains the weights under fake quantization on Ultralytics' own trainer, by the task's loss on labelled images and by
distillation from the float model, and judges every epoch by COCO mAP and, where that ties, by the noise d. Writes
DIR/best.safetensors and DIR/last.safetensors. With --supervise it trains by distillation alone, layer by layer, on images that
need no labels: for YOLOv5, YOLOv7 and end-to-end detectors too. With --images DIR alone one half of the images trains, and
epochs are judged by d on the other. An interrupted run goes on, to the same losses, when the same line is run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import export, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field
from yoloqat.config import EvalConfig, to_dict
from yoloqat.config.sizes import square_side
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import load_detector
from yoloqat.errors import ConfigError
from yoloqat.finetuning import BEST, LAST, FinetuneConfig, LossWeights, SupervisionConfig, parse_rates
from yoloqat.pipeline.finetune import Scoring, check_quantized, finetune, float_detector
from yoloqat.pipeline.finetune_trainers import Places, Trainer, trainer_for, training_devices
from yoloqat.pipeline.recipe import check_made_by
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import training_table
from yoloqat.provenance import file_sha256


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="CHECKPOINT", help="what `yoloqat calibrate` wrote")
    options.add_recipe(parser)
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    options.add_log(parser)
    group = parser.add_argument_group("training")
    add_field(group, FinetuneConfig, "epochs", "passes over the images")
    group.add_argument(
        "--lr0",
        default=f"{FinetuneConfig.lr0:g}",
        metavar="F",
        help="learning rate, falling along a cosine; with --supervise also per epoch, as 0:1e-6,6:1e-5 (default: %(default)s)",
    )
    add_field(group, FinetuneConfig, "optimizer", "as Ultralytics knows it")
    add_field(group, FinetuneConfig, "patience", "stop after N epochs that are no better", shown="never")
    add_field(group, FinetuneConfig, "seed", "order and augmentation")
    add_field(group, FinetuneConfig, "learn_amax", "learn the ranges beside the weights (LSQ)")
    add_field(group, FinetuneConfig, "keep_bn", "keep batch-norms, statistics frozen, and fold them where it saves")
    group.add_argument(
        "--train",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of Ultralytics' trainer, e.g. mosaic=0.5; may be repeated",
    )
    group.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="processes that train together on the CPU (default: 1); on GPUs name several: --device 0,1",
    )
    group.add_argument("--resume", action="store_true", help="go on with an interrupted run or fail, never begin anew")
    group = parser.add_argument_group("distillation")
    add_field(group, LossWeights, "task", "weight of the task's loss", metavar="W")
    add_field(group, LossWeights, "outputs", "weight of the outputs", flag="--distill", metavar="W")
    add_field(group, LossWeights, "features", "weight of the features", metavar="W")
    group.add_argument(
        "--float",
        type=Path,
        metavar="MODEL",
        help="the float model, for --keep-bn and checkpoints trained before (default: where the checkpoint says)",
    )
    group.add_argument(
        "--supervise", type=int, metavar="STRIDE", help="distil alone, from the output of every STRIDE-th module"
    )
    group.add_argument(
        "--train-images-dir", type=Path, metavar="DIR", help="with --supervise: images without labels to train on"
    )


def _dataset(args: argparse.Namespace) -> DetectionDataset | None:
    """Return what epochs are scored on; None where images without labels train and judge.

    Raises:
        ConfigError: There are no labels, and the trainer needs them.
        DataError: No data set was named, or it cannot be loaded.
    """
    if not options.unlabelled(args):
        return options.required_dataset(args)
    if args.supervise is None:
        raise ConfigError(
            f"the images in '{args.images}' have no labels, which Ultralytics' trainer needs",
            expected="labels, or training by distillation alone",
            hint="add --supervise 1, or name a labelled data set with --data",
        )
    return None


def _trainer(
    args: argparse.Namespace,
    dataset: DetectionDataset | None,
    evaluation: EvalConfig,
    compared: tuple[ImageRecord, ...],
) -> Trainer:
    """Return how to train, of the two ways that the options name.

    Raises:
        ConfigError: An option of one way came with the other, or a setting does not fit.
    """
    devices, rates = training_devices(args.device, args.processes), parse_rates(args.lr0)
    config: FinetuneConfig | SupervisionConfig
    if args.supervise is not None:
        if args.keep_bn:
            raise ConfigError(
                f"'--keep-bn' does not go with '--supervise {args.supervise}'", expected="one of them", hint="drop one"
            )
        config = SupervisionConfig(
            epochs=args.epochs,
            batch=args.batch,
            imgsz=evaluation.imgsz,
            rates=rates,
            stride=args.supervise,
            seed=args.seed,
            learn_amax=args.learn_amax,
            patience=args.patience,
        )
    else:
        if len(rates) > 1:
            raise ConfigError(
                f"'--lr0 {args.lr0}' goes with --supervise alone", expected="--supervise STRIDE", hint="add it"
            )
        hint = "fine-tune by distillation alone with --supervise 1"
        config = FinetuneConfig(
            epochs=args.epochs,
            batch=args.batch,
            imgsz=square_side(evaluation.imgsz, reason="Ultralytics' trainer", hint=hint),
            lr0=rates[0][1],
            optimizer=args.optimizer,
            patience=args.patience,
            seed=args.seed,
            learn_amax=args.learn_amax,
            keep_bn=args.keep_bn,
            processes=len(devices),
            weights=LossWeights(task=args.task, outputs=args.distill, features=args.features),
            arguments=tuple(args.train),
        )
    places = Places(devices, args.model, dataset, evaluation, compared)
    return trainer_for(
        config,
        args.data,
        places,
        images=args.train_images_dir or (args.images if dataset is None else None),
        floating=args.float,
        skipped=options.skipped_images(args),
        held_out=args.train_images_dir is None,
    )


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    recipe = options.take_recipe(args)
    dataset = _dataset(args)
    compared = options.comparison_records(args, dataset)
    detector = load_detector(args.model)
    if recipe is not None:
        check_made_by(recipe, detector)
    check_quantized(detector, args.model)
    config = options.eval_config(args, detector.imgsz)
    trainer = _trainer(args, dataset, config, compared)
    teacher = float_detector(detector, args.float)
    sha = file_sha256(args.model)
    results = finetune(
        detector,
        teacher,
        trainer.bind(detector, teacher, run),
        Scoring(dataset, config, run, compared),
        config=trainer.config,
        inputs={"checkpoint": sha, "images": trainer.images_key()},
        must_resume=args.resume,
    )
    settings = {"evaluation": to_dict(config), "training": to_dict(trainer.config)}
    inputs = {
        "model": options.model_input(detector),
        "checkpoint": {"path": str(args.model), "sha256": sha},
        "data": options.dataset_input(dataset),
    }
    lines = export.lines_after(args, detector, run.out / BEST)
    return Outcome(settings, results, inputs, [training_table(args.model.name, results)], [BEST, LAST], lines)


COMMAND = Command("finetune", __doc__ or "", _arguments, _run, devices=True, files=(BEST, LAST))
