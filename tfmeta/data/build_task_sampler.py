"""The sampler that fits the data."""

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.streaming_task_sampler import StreamingTaskSampler
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig


def build_task_sampler(prepared: PreparedData, *, config: TaskSamplerConfig, label: Label,
                       seed: int = 0) -> TaskSampler | StreamingTaskSampler:
    """Returns a sampler of the training interactions.

    From memory where they are at most `config.max_rows_in_memory`, otherwise from disk.

    Raises:
      DataError: if no user has enough interactions.
      ConfigError: if `max_rows_in_memory` is too small for a meta-batch.
    """
    rows = prepared.training_rows
    if config.max_rows_in_memory is None or rows.num_rows <= config.max_rows_in_memory:
        return TaskSampler(rows, config=config, label=label, seed=seed)
    return StreamingTaskSampler(rows, config=config, label=label, seed=seed)
