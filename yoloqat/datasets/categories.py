"""Which category of a data set is which class of a model: by name, never by position."""

from __future__ import annotations

from collections import Counter

from yoloqat.datasets.records import DetectionDataset
from yoloqat.errors import DataError


def match_categories(dataset: DetectionDataset, names: dict[int, str]) -> dict[int, int]:
    """Return the category id of every class of a model.

    A category that no annotation uses needs no class (some tools write a root category).

    Args:
        dataset: The data set.
        names: Class index to class name of the model.

    Returns:
        Class index to category id.

    Raises:
        DataError: A class has no category of its name, a category with annotations has no class, or a name is there
            twice.
    """
    categories = {str(entry["name"]): int(entry["id"]) for entry in dataset.annotations["categories"]}
    classes = {index: name.strip() for index, name in names.items()}
    _check_unique([str(entry["name"]) for entry in dataset.annotations["categories"]], "data set")
    _check_unique(list(classes.values()), "model")
    used = {int(entry["category_id"]) for entry in dataset.annotations["annotations"]}
    missing = [name for name in classes.values() if name not in categories]
    superfluous = [name for name, number in categories.items() if number in used and name not in classes.values()]
    if missing or superfluous:
        parts = [f"model classes without a category: {_some(missing)}"] if missing else []
        parts += [f"categories without a model class: {_some(superfluous)}"] if superfluous else []
        raise DataError(
            f"the data set ({dataset.labels_source}) and the model name different classes ({'; '.join(parts)})",
            expected=f"the model's {len(classes)} class names",
            mend="take the data set that the model was trained for, or rename its categories",
        )
    return {index: categories[name] for index, name in classes.items()}


def _check_unique(names: list[str], owner: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"the {owner} has the class name '{twice[0]}' more than once",
            expected="unique class names, because categories are matched by name",
            mend="rename one of them",
        )


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
