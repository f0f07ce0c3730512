"""Which category of a data set is which class of a model: by name in a COCO json, by index in YOLO label files."""

from __future__ import annotations

from collections import Counter
from typing import Any

from yoloqat.datasets.dataset_yaml import unnamed
from yoloqat.datasets.records import DetectionDataset
from yoloqat.errors import DataError, warn


def match_categories(dataset: DetectionDataset, names: dict[int, str]) -> dict[int, int]:
    """Return the category id of every class of a model.

    The categories of a COCO json are the classes of their names, in upper or lower case where no other bears the name; one
    that no annotation uses needs no class (some tools write a root category). YOLO label files name classes by their index.

    Args:
        dataset: The data set.
        names: Class index to class name of the model.

    Returns:
        Class index to category id.

    Raises:
        DataError: By name: a class has no category, a category with annotations has no class, or a name is there twice. By
            index: an annotation has a class that the model lacks, or the numbers of classes differ and so do their names.
    """
    classes = {index: name.strip() for index, name in names.items()}
    used = {int(entry["category_id"]) for entry in dataset.annotations["annotations"]}
    if dataset.by_index:
        _check_indices(dataset, classes, used)
        return {index: index for index in classes}
    categories = {str(entry["name"]): int(entry["id"]) for entry in dataset.annotations["categories"]}
    _check_unique([str(entry["name"]) for entry in dataset.annotations["categories"]], "data set")
    _check_unique(list(classes.values()), "model")
    of_category = _by_name(list(categories), list(classes.values()))
    missing = [name for name in classes.values() if name not in of_category.values()]
    superfluous = [name for name, number in categories.items() if number in used and name not in of_category]
    if missing or superfluous:
        raise _different(dataset, classes, missing, superfluous)
    found = {name: categories[category] for category, name in of_category.items()}
    return {index: found[name] for index, name in classes.items()}


def warn_of_names(dataset: DetectionDataset, names: dict[int, str]) -> None:
    """Warn where the categories of a data set and the classes of a model match but bear different names.

    Args:
        dataset: The data set.
        names: Class index to class name of the model.

    Raises:
        DataError: They do not match.
    """
    matched = match_categories(dataset, names)
    if dataset.by_index:
        warn_of_indices(dataset.names, names, dataset.labels_source)
        return
    own = {int(entry["id"]): str(entry["name"]) for entry in dataset.annotations["categories"]}
    pairs = [(own[category], names[index].strip()) for index, category in matched.items()]
    other = [pair for pair in pairs if pair[0] != pair[1]]
    if other:
        warn(
            f"{len(other)} categories of '{dataset.labels_source}' are taken for classes whose names differ in case, e.g. "
            f"'{other[0][0]}' for '{other[0][1]}'"
        )


def warn_of_indices(own: dict[int, str], names: dict[int, str], source: str) -> None:
    """Warn where classes that are the same by their index bear different names.

    Args:
        own: Class index to class name of the data set.
        names: The same of the model.
        source: Where the labels come from.
    """
    other = differing(own, names)
    if other:
        index = other[0]
        warn(
            f"{len(other)} of {len(names)} classes have other names in the data set ({source}) than in the model, e.g. "
            f"class {index} '{own[index]}' and '{names[index].strip()}'; YOLO label files go by index"
        )


def differing(own: dict[int, str], names: dict[int, str]) -> list[int]:
    """Return the indices that a data set and a model call differently; none where the data set states no names."""
    if own == unnamed(len(own)):
        return []
    return [index for index, name in names.items() if index in own and own[index].strip() != name.strip()]


def told_apart(names: dict[int, str]) -> dict[int, str]:
    """Return class names that occur once, those that occur more often with their index after them."""
    counts = Counter(names.values())
    return {index: name if counts[name] == 1 else f"{name} ({index})" for index, name in names.items()}


def once_named(labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the categories without those that no annotation uses and whose name another bears.

    Args:
        labels: COCO annotations with ``annotations`` and ``categories``.
    """
    used = {entry["category_id"] for entry in labels["annotations"]}
    of_used = {entry["name"] for entry in labels["categories"] if entry["id"] in used}
    return [entry for entry in labels["categories"] if entry["id"] in used or entry["name"] not in of_used]


def _by_name(categories: list[str], classes: list[str]) -> dict[str, str]:
    """Return category name to class name: equal ones, and of the rest those that are equal but for case, if alone so."""
    found = {name: name for name in categories if name in classes}
    counts = Counter(
        name.casefold() for names in (set(categories) - set(found), set(classes) - set(found)) for name in names
    )
    rest = {name.casefold(): name for name in classes if name not in found}
    for name in categories:
        folded = name.casefold()
        if name not in found and folded in rest and counts[folded] == 2:
            found[name] = rest[folded]
    return found


def _check_indices(dataset: DetectionDataset, classes: dict[int, str], used: set[int]) -> None:
    own = dataset.names
    beyond = [own[index] for index in sorted(used) if index not in classes]
    other = differing(own, classes) if len(own) != len(classes) else []
    if beyond or other:
        raise _different(
            dataset, classes, [classes[index] for index in other], beyond or [own[index] for index in other]
        )


def _different(
    dataset: DetectionDataset, classes: dict[int, str], missing: list[str], superfluous: list[str]
) -> DataError:
    parts = [f"model classes without a category: {_some(missing)}"] if missing else []
    parts += [f"categories without a model class: {_some(superfluous)}"] if superfluous else []
    return DataError(
        f"the data set ({dataset.labels_source}) and the model name different classes ({'; '.join(parts)})",
        expected=f"the model's {len(classes)} class names",
        hint="take the data set that the model was trained for, or rename its categories",
    )


def _check_unique(names: list[str], owner: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"the {owner} has the class name '{twice[0]}' more than once",
            expected="unique class names, because categories are matched by name",
            hint="rename one of them",
        )


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
