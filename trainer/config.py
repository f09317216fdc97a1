"""The training configuration: one frozen dataclass per section of the YAML file."""

import dataclasses
import importlib.resources
from typing import Any, Literal

from tfmeta import config
from tfmeta.config import require
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.data.task_set import STATES
from tfmeta.errors import ConfigError, suggest
from tfmeta.io import filesystem


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The outer optimizer.

    Attributes:
      name: a Keras optimizer. `adam` and `adamw` update embedding tables by the rows that a batch has read
        (`trainer.lazy_adam.LazyAdam` says how that differs from dense Adam), plain `sgd` too; a step of any other
        takes longer the larger the tables are.
      learning_rate: outer learning rate, after warm-up.
      weight_decay: decoupled decay per step relative to the learning rate; biases and the learner's own
        parameters are exempt; with `adam` and `adamw` a table decays in the rows that a batch has read.
      momentum: for `sgd` and `rmsprop`.
      schedule: what the learning rate does over the whole run: `constant`, `cosine` or `exponential`.
      final_fraction: where `cosine` and `exponential` end, as a fraction of `learning_rate`.
      warmup_steps: outer steps over which the learning rate grows linearly from almost 0.
      clip_norm: bound of the global gradient norm; None for none.
    """

    name: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop", "nadam", "lion"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    final_fraction: float = 0.01
    warmup_steps: int = 0
    clip_norm: float | None = 5.0

    def __post_init__(self):
        require(self.learning_rate > 0, "learning_rate", "a positive number", self.learning_rate)
        require(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)
        require(0 <= self.momentum < 1, "momentum", "a number in [0, 1)", self.momentum)
        require(self.momentum == 0 or self.name in ("sgd", "rmsprop"), "momentum",
                f"0 with optimizer '{self.name}' (only sgd and rmsprop have it)", self.momentum)
        require(0 < self.final_fraction <= 1, "final_fraction", "a number in (0, 1]", self.final_fraction)
        require(self.warmup_steps >= 0, "warmup_steps", "0 or more", self.warmup_steps)
        require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "a positive number or none",
                self.clip_norm)


@dataclasses.dataclass(frozen=True)
class EarlyStoppingConfig:
    """Which epoch's weights are kept, and when to stop looking for better ones.

    Attributes:
      metric: a validation metric of the history; None takes `val_mae` for ratings, `val_ndcg@20` for implicit feedback
        whose validation queries hold positives only, and `val_auc` otherwise.
      patience: validations without an improvement after which training stops; None never stops.
      min_delta: smallest change that counts as an improvement, in the metric's unit.
    """

    metric: str | None = None
    patience: int | None = 5
    min_delta: float = 0.0

    def __post_init__(self):
        require(self.metric is None or self.metric.startswith("val_"), "metric",
                "a validation metric such as val_mae or val_auc", self.metric)
        require(self.patience is None or self.patience >= 1, "patience", "at least 1, or none", self.patience)
        require(self.min_delta >= 0, "min_delta", "0 or more", self.min_delta)


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Validation during training, on the prepared validation tasks.

    Attributes:
      every: epochs between validations; the last epoch is always validated.
      max_tasks: tasks of each state that are scored, a fixed random choice; None for all.
      k: support rows used, `all` or a number.
      states: states that are scored; None for all that the validation tasks have.
      batch_size: tasks scored at a time.
    """

    every: int = 1
    max_tasks: int | None = 500
    k: int | Literal["all"] = "all"
    states: tuple[str, ...] | None = None
    batch_size: int = 128

    def __post_init__(self):
        require(self.every >= 1, "every", "at least 1", self.every)
        require(self.max_tasks is None or self.max_tasks >= 1, "max_tasks", "at least 1, or none", self.max_tasks)
        require(self.k == "all" or self.k >= 0, "k", "'all' or 0 and more", self.k)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        for state in self.states or ():
            if state not in STATES:
                raise ConfigError(f"'states' received '{state}'.{suggest(state, STATES)}")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the whole training state is saved.

    Attributes:
      every_epochs: epochs between checkpoints; the last epoch always has one.
      every_steps: steps between checkpoints within an epoch; None for none.
      keep: checkpoints that are kept.
    """

    every_epochs: int = 1
    every_steps: int | None = None
    keep: int = 2

    def __post_init__(self):
        require(self.every_epochs >= 1, "every_epochs", "at least 1", self.every_epochs)
        require(self.every_steps is None or self.every_steps >= 1, "every_steps", "at least 1, or none",
                self.every_steps)
        require(self.keep >= 1, "keep", "at least 1", self.keep)


@dataclasses.dataclass(frozen=True)
class TensorBoardConfig:
    """What TensorBoard gets.

    Attributes:
      enabled: write event files at all.
      histograms: also histograms of the inner learning rates.
    """

    enabled: bool = True
    histograms: bool = True


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run.

    Attributes:
      seed: of initial values, tasks and item-id dropout.
      model: `{name: two_tower, ...}`, hyper-parameters of the model.
      learner: `{name: maml, scope: ..., ...}`, hyper-parameters of the learner. Without a name it is `ordinal_ridge`
        for ratings on levels and `ridge` for other labels where the model has a linear head, as two_tower has, else
        `maml`; options that only one of these has decide, too. A run's own configuration has the name.
      sampler: how support and query are drawn.
      optimizer: the outer optimizer.
      epochs: at most that many; exactly that many where there are no validation tasks.
      item_id_dropout: probability that an item's id is hidden in a task, in support and query alike, so that
        the model learns to do with content alone.
      item_id_dropout_spread: share of tasks in which that probability is drawn uniformly from [0, 1] instead, so that
        every mixture of known and new items occurs.
      precision: `float32`, or `mixed_bfloat16` (computation in bfloat16, variables in float32).
      early_stopping: None trains all epochs and keeps the last weights.
      validation, checkpoint, tensorboard: see the sections.
      xla: compile the training step with XLA, supports padded to the most rows a task can have; adaptation and query
        loss alone where features are lists or texts or the model has an item-id embedding. Faster for meta-batches of
        up to about 64 tasks with supports of about one size; starts more slowly.
      distribution: on what training runs: `none` one device; `mirrored` all GPUs of this machine (its logical CPU
        devices where there are none); `multi_worker` the workers that TF_CONFIG names; `auto` `multi_worker` where
        TF_CONFIG names several workers, else `mirrored` where there are several GPUs, else `none`. A meta-batch is
        shared out over all devices, so it decides nothing but rounding, and a run may be resumed on others.
      deterministic: the same seed gives the same bits (TensorFlow's op determinism while it trains).
    """

    seed: int = 0
    model: dict = dataclasses.field(default_factory=lambda: {"name": "two_tower"})
    learner: dict = dataclasses.field(default_factory=dict)
    sampler: TaskSamplerConfig = dataclasses.field(default_factory=TaskSamplerConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    epochs: int = 20
    item_id_dropout: float = 0.0
    item_id_dropout_spread: float = 0.0
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    early_stopping: EarlyStoppingConfig | None = EarlyStoppingConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tensorboard: TensorBoardConfig = TensorBoardConfig()
    xla: bool = False
    distribution: Literal["auto", "none", "mirrored", "multi_worker"] = "auto"
    deterministic: bool = True

    def __post_init__(self):
        require(not self.xla or self.sampler.support_width is not None, "xla",
                "a bound of the support: sampler.max_interactions or sampler.support_size", self.xla)
        require(0 <= self.seed < 2**31, "seed", "an integer in [0, 2^31)", self.seed)
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(0 <= self.item_id_dropout < 1, "item_id_dropout", "a probability in [0, 1)", self.item_id_dropout)
        require(0 <= self.item_id_dropout_spread <= 1, "item_id_dropout_spread", "a share from 0 to 1",
                self.item_id_dropout_spread)


def load_config(source: str | dict | None = None, *, overrides: list[str] | None = None) -> TrainConfig:
    """Reads a training configuration.

    Args:
      source: a YAML file on any file system, the name of a packaged configuration (`demo`, `quick`), a mapping,
        or None for the defaults.
      overrides: `key.path=value` strings, applied last.

    Raises:
      ConfigError: if the file is absent, or a key or value is wrong.
    """
    values: dict[str, Any] = {}
    if isinstance(source, dict):
        values = source
    elif source is not None:
        packaged = packaged_configs()
        if source in packaged and not filesystem.exists(source):
            source = packaged[source]
        elif not filesystem.exists(source) and "/" not in source and "." not in source:
            raise ConfigError(f"'{source}' is neither a file nor a packaged configuration.{suggest(source, packaged)}")
        values = config.load_yaml(source)
    return config.parse(TrainConfig, config.apply_overrides(values, overrides or []))


def packaged_configs() -> dict[str, str]:
    """Returns the packaged configurations: name -> path."""
    folder = importlib.resources.files("trainer") / "configs"
    return {f.name.removesuffix(".yaml"): str(f) for f in folder.iterdir() if f.name.endswith(".yaml")}
