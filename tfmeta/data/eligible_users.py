"""Which users become training tasks."""

import numpy as np

from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import DataError


def eligible_users(counts: np.ndarray, config: TaskSamplerConfig) -> np.ndarray:
    """Returns where `counts [U]`, interactions of each user, lie within the configuration's bounds: `[U]` bool.

    Raises:
      DataError: if they do for no user.
    """
    eligible = counts >= config.min_interactions
    dropping = config.over_max == "drop" and config.max_interactions is not None
    if dropping:
        eligible &= counts <= config.max_interactions
    if not eligible.any():
        bound = (f"{config.min_interactions} to {config.max_interactions}" if dropping else
                 f"at least {config.min_interactions}")
        raise DataError(
            f"Tasks require users with {bound} interactions, received {len(counts)} users with "
            f"{min(counts, default=0)} to {max(counts, default=0)}. Change sampler.min_interactions, "
            "sampler.query_size or sampler.over_max, or prepare more data.")
    return eligible
