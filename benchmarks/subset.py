"""The first images of a data set, for benchmarks that should not take an hour."""

from __future__ import annotations

from dataclasses import replace

from yoloqat.datasets import DetectionDataset


def first_images(dataset: DetectionDataset, count: int | None) -> DetectionDataset:
    """Return ``dataset`` cut to its first ``count`` images, or as it is where that is None."""
    if count is None:
        return dataset
    images = dataset.images[:count]
    ids = {record.image_id for record in images}
    annotations = dataset.annotations | {
        "images": [entry for entry in dataset.annotations["images"] if entry["id"] in ids],
        "annotations": [entry for entry in dataset.annotations["annotations"] if entry["image_id"] in ids],
    }
    return replace(dataset, images=images, annotations=annotations)
