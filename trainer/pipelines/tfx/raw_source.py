"""Raw data by the name of a data set, unprepared."""

from collections.abc import Mapping
from typing import Any

from tfmeta import config
from tfmeta.config import require
from tfmeta.data.prepare_dataset import SYNTHETIC
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers import read
from tfmeta.data.schema import Schema
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig


def read_source(dataset: str, *, source: str = "", schema: str = "", synthetic: Mapping[str, Any] | None = None,
                ) -> RawData:
    """Reads, or generates, and cleans a data set.

    Args:
      dataset: as of `tfmeta data prepare`.
      source: file or directory; required unless synthetic.
      schema: YAML file, required by csv and parquet.
      synthetic: settings of the generator.

    Raises:
      ConfigError: if something is missing or wrong.
      DataError: if the data cannot be read.
    """
    if dataset == SYNTHETIC:
        from tfmeta.data.synthetic.generate import generate

        return generate(config.parse(SyntheticConfig, dict(synthetic or {}), where="synthetic"))[0]
    require(bool(source), "source", f"where the files of data set {dataset} are", source)
    return read(dataset, source, schema=Schema.from_yaml(schema) if schema else None)
