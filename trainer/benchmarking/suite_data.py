"""The prepared directories of a suite."""

import dataclasses
import os

from tfmeta.content.enrich import enrich
from tfmeta.data.prepare_dataset import SYNTHETIC, default_split, prepare_dataset
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem
from trainer.benchmarking.suite import Suite
from trainer.benchmarking.tuning_subset import write_tuning_subset


@dataclasses.dataclass(frozen=True)
class SuiteData:
    """Data of a suite, prepared once and kept.

    Attributes:
      tuning: pseudo-cold users and items held out, whose validation tasks choose everything.
      subset: training rows of some of its users, that trials are fitted on; without tasks.
      refit: everything but the test is trained on; has the test tasks.
    """

    tuning: PreparedData
    subset: PreparedData
    refit: PreparedData

    @classmethod
    def open(cls, suite: Suite, *, source: str | None, folder: str, tasks: str | None = None,
             validation: str | None = None) -> "SuiteData":
        """Prepares what is not there yet.

        Args:
          suite: what to prepare.
          source: its directory; None for synthetic data.
          folder: where the directories lie.
          tasks, validation: files of fixed test tasks and pseudo-cold users and items; default those of the suite
            where they lie in a folder `peers` beside the sources.

        Raises:
          ConfigError: if the source is missing or needless.
          DataError: if it cannot be read.
        """
        check_source(suite, source)
        split = suite.split or default_split(suite.dataset, source)
        tasks = tasks or beside(source, suite.fixed_tasks)
        validation = validation or beside(source, suite.fixed_validation)
        if tasks is not None:
            split = dataclasses.replace(split, mode="explicit", tasks=os.path.abspath(tasks))
        if validation is not None:
            split = dataclasses.replace(split, validation=os.path.abspath(validation))

        def prepared(part: str, split: SplitConfig) -> PreparedData:
            def prepare(path: str) -> PreparedData:
                return prepare_dataset(dataset=suite.dataset, source=source, synthetic=suite.synthetic, out=path,
                                       split=split)

            if not suite.content_profile:
                return _once(filesystem.join(folder, part), prepare)
            plain = filesystem.join(folder, f"{part}-plain")
            return _once(filesystem.join(folder, part), lambda path: enrich(_once(plain, prepare), out=path))

        tuning, refit = prepared("tuning", split), prepared("refit", split.without_validation())
        subset = _once(filesystem.join(folder, f"subset-{suite.tuning_users}"),
                       lambda path: write_tuning_subset(tuning, out=path, users=suite.tuning_users))
        if not len(tuning.tasks("validation")):
            raise DataError(f"Suite '{suite.name}' requires validation tasks; the split of '{source}' has none. "
                            "Give more data.")
        return cls(tuning, subset, refit)

    def validation_tasks(self, limit: int) -> TaskSet:
        """Returns the tasks that trials are scored on: of every state the same `limit`, evenly spread."""
        import numpy as np

        tasks = self.tuning.tasks("validation")
        chosen = []
        for state in tasks.states:
            index = np.flatnonzero(tasks.state == state)
            chosen.append(index[np.linspace(0, len(index) - 1, min(limit, len(index))).round().astype(int)])
        return tasks.select(np.concatenate(chosen))


def check_source(suite: Suite, source: str | None) -> None:
    """Raises ConfigError or DataError unless the source goes with the suite and is there."""
    if suite.dataset == SYNTHETIC:
        if source is not None:
            raise ConfigError(f"Suite '{suite.name}' generates its data and requires no --source, received '{source}'.")
        return
    if source is None:
        raise ConfigError(f"Suite '{suite.name}' requires the directory of its data: --source DIR.")
    if not filesystem.is_dir(source):
        raise DataError(f"Suite '{suite.name}' requires its data in '{source}', which is not a directory. "
                        "Correct --source.")


def beside(source: str | None, name: str | None) -> str | None:
    """Returns the file `name` in the folder `peers` beside the folder of sources, None where there is none."""
    if source is None or name is None:
        return None
    path = os.path.normpath(os.path.join(os.path.abspath(source), "..", "..", "peers", name))
    return path if os.path.exists(path) else None


def _once(path: str, make) -> PreparedData:
    if not filesystem.exists(path):
        try:
            return make(path)
        except (DataError, OSError):
            if not filesystem.exists(path):  # else another process was faster
                raise
    return PreparedData(path)
