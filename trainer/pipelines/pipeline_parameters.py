"""What a run of the pipeline is told."""

import dataclasses
from typing import Any, Literal

from tfmeta.config import require
from tfmeta.data.task_set import STATES
from tfmeta.errors import ConfigError, suggest
from tfmeta.io import filesystem


@dataclasses.dataclass(frozen=True)
class PipelineParameters:
    """The parameters of the pipeline; each is one of the engine's, with these as defaults.

    Attributes:
      dataset: as of `tfmeta data prepare`.
      source: file, glob or directory of the raw data.
      schema: YAML file that says what CSV and Parquet look like.
      split: settings of split, `vocabulary` and `synthetic` generator, as of `tfmeta data prepare --set`.
      config: training configuration, a YAML file or the name of a packaged one; empty for the defaults.
      train: settings laid over it, as of `tfmeta train --set`.
      ks: numbers of support rows that are evaluated, comma-separated.
      baselines: comma-separated; empty for those of the label's unit. The gate needs `damped_bias` or `popularity`.
      gate_states: states that the gate judges, comma-separated; empty for all.
      serving, serving_image: see `trainer.pipelines.serving_container`.
      default_signature, item_features, support_bound, top_k: as of `tfmeta export`.
      batch_mode: what the exported model is used for at once: `score`, `recommend`, `embed`, or `none`.
      batch_interactions, batch_candidates, batch_users: paths, as of `tfmeta batch-score`.
      beam_options: of Beam, such as `--runner=DataflowRunner`.

    Raises:
      ConfigError: if a value is out of range.
    """

    dataset: Literal["ml-1m", "ml-100k", "yelp", "gift-cards", "csv", "parquet", "synthetic"] = "csv"
    source: str = ""
    schema: str = ""
    split: dict = dataclasses.field(default_factory=dict)
    config: str = ""
    train: dict = dataclasses.field(default_factory=dict)
    ks: str = "0,1,3,5,10,20,all"
    baselines: str = ""
    gate_states: str = ""
    serving: Literal["tensorflow-serving", "vertex-prebuilt"] = "tensorflow-serving"
    serving_image: str = ""
    default_signature: Literal["score", "adapt_and_score"] = "adapt_and_score"
    item_features: Literal["catalogue", "request"] = "catalogue"
    support_bound: int = 100
    top_k: int = 100
    batch_mode: Literal["none", "score", "recommend", "embed"] = "none"
    batch_interactions: tuple[str, ...] = ()
    batch_candidates: tuple[str, ...] = ()
    batch_users: tuple[str, ...] = ()
    beam_options: tuple[str, ...] = ()

    def __post_init__(self):
        from trainer.pipelines.steps.prepare import preparation_settings
        from trainer.pipelines.steps.train import training_config

        if self.dataset == "synthetic":
            require(not (self.source or self.schema), "source", "nothing with data set synthetic", self.source)
        preparation_settings(self.dataset, self.split)
        # A file on the engine's storage may be out of reach here; the training step then says what is wrong.
        if not filesystem.is_remote(self.config):
            training_config(self.config, self.train)
        self._check_evaluation()
        require(1 <= self.support_bound <= 10_000, "support_bound", "1 to 10000", self.support_bound)
        require(1 <= self.top_k <= 10_000, "top_k", "1 to 10000", self.top_k)
        if self.batch_mode == "score":
            require(bool(self.batch_candidates), "batch_candidates", "files with users and items for batch_mode score",
                    list(self.batch_candidates))
        elif self.batch_mode != "none":
            require(not self.batch_candidates, "batch_candidates", f"none with batch_mode {self.batch_mode}",
                    list(self.batch_candidates))
            require(bool(self.batch_users or self.batch_interactions), "batch_users",
                    f"files, or batch_interactions, with batch_mode {self.batch_mode}", list(self.batch_users))

    def _check_evaluation(self) -> None:
        from tfmeta.baselines import BASELINES
        from trainer.commands.evaluate import parse_ks, parse_names

        ks = parse_ks(self.ks)
        require(0 in ks and len(ks) > 1, "ks", "0 and at least one other number, which the gate compares", self.ks)
        for name in parse_names(self.baselines):
            if name not in BASELINES:
                raise ConfigError(f"'baselines' received '{name}'.{suggest(name, BASELINES)}")
        require(not self.baselines or {"damped_bias", "popularity"} & set(parse_names(self.baselines)), "baselines",
                "damped_bias or popularity among them, which the gate compares with", self.baselines)
        for state in parse_names(self.gate_states):
            if state not in STATES:
                raise ConfigError(f"'gate_states' received '{state}'.{suggest(state, STATES)}")

    def values(self) -> dict[str, Any]:
        """Returns name -> JSON-able value."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
                for f in dataclasses.fields(self)}
