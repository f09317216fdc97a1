"""The suites by name."""

import dataclasses

from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError, suggest
from trainer.benchmarking.suite import Suite

SUITES: dict[str, Suite] = {suite.name: suite for suite in (
    Suite(name="ml1m", dataset="ml-1m", fixed_tasks="ml-1m_tasks.parquet",
          fixed_validation="ml-1m_validation.parquet", content_profile=True),
    Suite(name="ml100k", dataset="ml-100k", content_profile=True),
    # Leave-last-out in time order: the last visit of warm and of cold users, out of all places they had not met.
    # 1,000 users visit too few of 20,000 places to tell settings or learners apart: a trial has all training users and
    # a third of the epochs.
    Suite(name="yelp", dataset="yelp", unit="click", criterion="ndcg@20", metrics=("ndcg@20", "recall@20"),
          tuning_users=1_000_000, refit_epoch_factor=3.0,
          ks=(0, 1, 3, 5, 10, "all"), cutoffs=(), catalogue_cutoff=20, catalogue_ks=(0, 1, 3, 5, 10, "all"),
          validation_tasks=2000,
          split=SplitConfig(last_out=True, query_size=1, min_interactions=5, max_interactions=None,
                            cold_user_share=0.05, cold_item_share=0.0, validation_user_share=0.05,
                            validation_item_share=0.0, warm_test_user_share=0.05)),
    # Few ratings by few people: a query of 2, and all but 2 of a cold user's ratings as the support.
    Suite(name="gift-cards", dataset="gift-cards", ks=(0, 1, 3, 5, "all"), cutoffs=(2,),
          metrics=("mae", "auc", "ndcg@2"),
          split=SplitConfig(query_size=2, min_interactions=4, max_interactions=None, cold_user_share=0.2,
                            cold_item_share=0.1, validation_user_share=0.15, validation_item_share=0.1)),
    Suite(name="synthetic", dataset="synthetic", tuning_users=400, validation_tasks=400, ks=(0, 1, 5, 20, "all"),
          synthetic=SyntheticConfig(users=1200, items=300, ratings_per_user=40.0, rounded=True, seed=7)),
)}


def get_suite(name: str, **changes) -> Suite:
    """Returns a suite, with some of its fields changed where a value is not None.

    Raises:
      ConfigError: on an unknown name or a value out of range.
    """
    if name not in SUITES:
        raise ConfigError(f"Unknown suite '{name}'.{suggest(name, SUITES)}")
    return dataclasses.replace(SUITES[name], **{key: value for key, value in changes.items() if value is not None})
