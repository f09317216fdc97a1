"""The prepared directories of the MovieLens-1M benchmark."""

import dataclasses
import os

from tfmeta.data.prepare_dataset import default_split, prepare_dataset
from tfmeta.data.prepared_data import PreparedData
from tfmeta.io import filesystem

# What GroupLens publishes has no plot and no people; features are then genres_only.
_EXTRA = "movies_extra.parquet"


def public_view(source: str, *, folder: str) -> str:
    """Returns a directory of links to everything in `source` but the features that GroupLens does not publish."""
    view = os.path.join(folder, "source-genres_only")
    os.makedirs(view, exist_ok=True)
    for name in os.listdir(source):
        link = os.path.join(view, name)
        if name != _EXTRA and not os.path.lexists(link):
            os.symlink(os.path.abspath(os.path.join(source, name)), link)
    return view


def ml1m_data(source: str, *, folder: str, part: str, tasks: str | None = None,
              validation: str | None = None) -> PreparedData:
    """Returns the prepared directory `folder/data-<part>`, made on first use.

    Args:
      source: MovieLens-1M, with or without plot and people.
      folder: of the benchmark.
      part: `tuning` (pseudo-cold users and items held out) or `refit` (all but the test is trained on).
      tasks: file of fixed test tasks; None draws them.
      validation: file of pseudo-cold users and items; None draws them.
    """
    split = default_split("ml-1m", source)
    if tasks:
        split = dataclasses.replace(split, mode="explicit", tasks=os.path.abspath(tasks))
    if validation:
        split = dataclasses.replace(split, validation=os.path.abspath(validation))
    if part == "refit":
        split = split.without_validation()
    path = filesystem.join(folder, f"data-{part}")
    if filesystem.exists(path):
        return PreparedData(path)
    return prepare_dataset(dataset="ml-1m", source=source, out=path, split=split)
