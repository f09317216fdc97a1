"""The step from raw interactions to a prepared directory."""

from collections.abc import Mapping
from typing import Any

from tfmeta import config
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.data.vocabulary_config import VocabularyConfig


def prepare(*, dataset: str, source: str, schema: str, split: Mapping[str, Any], prepared, summary) -> None:
    """Prepares a data set.

    Args:
      dataset: as of `tfmeta data prepare`.
      source: file, glob or directory of the raw data; empty for `synthetic`.
      schema: YAML file that says what CSV and Parquet look like; else empty.
      split: settings of split, `vocabulary` and `synthetic` generator, as of `tfmeta data prepare --set`.
      prepared: gets the prepared directory.
      summary: gets counts as metrics.

    Raises:
      ConfigError, DataError: as `prepare_dataset` does.
    """
    from tfmeta.data.prepare_dataset import prepare_dataset
    from tfmeta.data.schema import Schema

    parts = preparation_settings(dataset, split, source=source or None)
    made = prepare_dataset(dataset=dataset, out=prepared.path, source=source or None,
                           schema=Schema.from_yaml(schema) if schema else None, overwrite=True, **parts)
    about = made.summary
    prepared.metadata |= {"dataset": dataset, "training_fingerprint": made.training_fingerprint()}
    summary.metadata |= {"interactions_read": about["read"]["read"], "interactions_rejected": about["read"]["rejected"],
                         "training_interactions": about["rows"]["train"], "warm_users": about["users"]["warm"],
                         "warm_items": about["items"]["warm"], "label_mean": about["label"]["mean"],
                         **{f"test_tasks_{state}": counts["tasks"] for state, counts in about["tasks"]["test"].items()}}


def preparation_settings(dataset: str, values: Mapping[str, Any], *, source: str | None = None) -> dict[str, Any]:
    """Returns `split`, `vocabulary` and `synthetic` of `prepare_dataset`; ConfigError where a value is wrong."""
    from tfmeta.data.prepare_dataset import SYNTHETIC, default_split

    values = whole(values)
    synthetic, vocabulary = values.pop("synthetic", None), values.pop("vocabulary", None)
    given = {**config.to_dict(default_split(dataset, source)), **values}
    return {"split": config.parse(SplitConfig, given, where="split"),
            "vocabulary": config.parse(VocabularyConfig, vocabulary, where="split.vocabulary"),
            "synthetic": config.parse(SyntheticConfig, synthetic or {}, where="split.synthetic")
            if synthetic is not None or dataset == SYNTHETIC else None}


def whole(value: Any) -> Any:
    """Returns nested values with whole floats as integers: the engines' structures know one kind of number."""
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
