"""What a suite of the benchmark is."""

import dataclasses

from tfmeta.config import require
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig


@dataclasses.dataclass(frozen=True)
class Suite:
    """One data set with a protocol.

    Attributes:
      name: on the command line.
      dataset: key of a reader, or `synthetic`.
      unit: of the labels; chooses the references.
      criterion: what tuning and selection go by: `mae` or `auc` with the whole support on the validation tasks, or a
        metric over the whole catalogue such as `ndcg@20`; the mean over the validation states.
      metrics: what the report shows, the most important one first.
      ks: numbers of support rows that are evaluated.
      cutoffs: those of the list metrics over the query; none where a query is one item, whose order says nothing.
      catalogue_cutoff: cut-off of recall and NDCG over the whole catalogue; None measures neither.
      catalogue_ks: numbers of support rows at which they are measured.
      tuning_users: training users that trials are fitted on.
      refit_epoch_factor: epochs of a searched system's final fit for each one of a trial. Above 1 where a trial on so
        many users that it tells settings apart has no time for all the epochs that they deserve.
      validation_tasks: validation tasks of each state that a trial is scored on.
      content_profile: whether items get their `ContentProfile` as one feature more, for all systems alike.
      split: how the data are split; None takes the data set's default.
      synthetic: settings of the generator.
      fixed_tasks, fixed_validation: files of test tasks and of pseudo-cold users and items, looked for in the folder
        `peers` beside the sources; without them both are drawn.
    """

    name: str
    dataset: str
    unit: str = "rating"
    criterion: str = "mae"
    metrics: tuple[str, ...] = ("auc", "ndcg@5", "mae")
    ks: tuple[int | str, ...] = (0, 1, 3, 5, 10, 20, "all")
    cutoffs: tuple[int, ...] = (5,)
    catalogue_cutoff: int | None = None
    catalogue_ks: tuple[int | str, ...] = (0, 5, "all")
    tuning_users: int = 1000
    refit_epoch_factor: float = 1.0
    validation_tasks: int = 1000
    content_profile: bool = False
    split: SplitConfig | None = None
    synthetic: SyntheticConfig | None = None
    fixed_tasks: str | None = None
    fixed_validation: str | None = None

    def __post_init__(self):
        catalogue = () if self.catalogue_cutoff is None else (f"ndcg@{self.catalogue_cutoff}",
                                                              f"recall@{self.catalogue_cutoff}")
        require(self.criterion in ("mae", "auc", *catalogue), "criterion",
                f"one of {', '.join(('mae', 'auc', *catalogue))}", self.criterion)
        require(self.refit_epoch_factor > 0, "refit_epoch_factor", "above 0", self.refit_epoch_factor)
        for name in ("tuning_users", "validation_tasks"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
