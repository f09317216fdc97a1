"""The suites by name."""

import dataclasses

from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError, suggest
from trainer.benchmarking.suite import Suite

# 300 users and a small split: minutes for every learner on two cores.
_SYNTHETIC = SyntheticConfig(users=1200, items=300, ratings_per_user=40.0, rounded=True, seed=7)

SUITES: dict[str, Suite] = {suite.name: suite for suite in (
    Suite(name="ml1m", dataset="ml-1m", fixed_tasks="ml-1m_tasks.parquet",
          fixed_validation="ml-1m_validation.parquet"),
    Suite(name="synthetic", dataset="synthetic", synthetic=_SYNTHETIC, tuning_users=400, validation_tasks=400,
          ks=(0, 1, 5, 20, "all")),
)}


def get_suite(name: str, **changes) -> Suite:
    """Returns a suite, with some of its fields changed where a value is not None.

    Raises:
      ConfigError: on an unknown name or a value out of range.
    """
    if name not in SUITES:
        raise ConfigError(f"Unknown suite '{name}'.{suggest(name, SUITES)}")
    return dataclasses.replace(SUITES[name], **{key: value for key, value in changes.items() if value is not None})
