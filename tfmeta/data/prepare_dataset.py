"""From the name of a data set to a prepared directory."""

import os
import time as clock

from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.prepared_tables import rejected_table, to_bytes
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers import READERS, get_reader, read
from tfmeta.data.schema import Schema
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.data.too_many_bad_rows_error import TooManyBadRowsError
from tfmeta.data.vocabulary_config import VocabularyConfig
from tfmeta.errors import ConfigError, DataError, suggest
from tfmeta.io import filesystem

SYNTHETIC = "synthetic"
# Earlier than any rating of MovieLens; what is below is a rank within one user.
_FIRST_TIMESTAMP = 800_000_000


def prepare_dataset(
    *,
    dataset: str,
    out: str,
    source: str | None = None,
    schema: Schema | None = None,
    split: SplitConfig | None = None,
    vocabulary: VocabularyConfig | None = None,
    synthetic: SyntheticConfig | None = None,
    download: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> PreparedData:
    """Reads or generates a data set and prepares it.

    Args:
      dataset: `ml-1m`, `ml-100k`, `yelp`, `gift-cards`, `csv`, `parquet` or `synthetic`.
      out: the directory to create.
      source: directory (or file) to read; None downloads MovieLens into the cache, `$TFMETA_CACHE` or
        `~/.cache/tfmeta`, where it is not there yet.
      schema: columns and features; required by csv and parquet.
      split: default `default_split(dataset, source)`.
      vocabulary: least counts of values.
      synthetic: settings of the generator.
      download: fetch MovieLens into `source` where it is not there yet.
      overwrite: replace a directory that is there.
      progress: show bars on stderr.

    Raises:
      ConfigError: if an option does not go with the data set.
      DataError: if the data cannot be read or split, or `out` exists. With too many bad rows, all of them
        are in `<out>.rejected.parquet`, which the message names.
    """
    begun = clock.perf_counter()
    known = (*READERS, SYNTHETIC)
    if dataset not in known:
        raise ConfigError(f"Unknown data set '{dataset}'.{suggest(dataset, known)}")
    out = str(out).rstrip("/")
    if not overwrite and filesystem.exists(out) and (not filesystem.is_dir(out) or filesystem.listdir(out)):
        raise DataError(f"'{out}' exists already. Choose another directory, remove it or pass --overwrite.")
    published, oracle = None, None
    if dataset == SYNTHETIC:
        for name, value in (("source", source), ("schema", schema)):
            if value is not None:
                raise ConfigError(f"Data set synthetic requires no {name}, received '{value}'.")
        raw, truth = generate(synthetic)
        oracle = truth.oracle
    else:
        if synthetic is not None:
            raise ConfigError(f"Settings of the generator go with data set synthetic, received '{dataset}'.")
        source = _source(dataset, source, download=download, progress=progress)
        raw = _read(dataset, source, schema, out=out, progress=progress)
        published = _published(dataset, source)
    split = split or default_split(dataset, source)
    if dataset == "ml-1m" and split.mode == "temporal" and (raw.interactions.time < _FIRST_TIMESTAMP).any():
        raise DataError(f"Mode temporal requires timestamps of all users; '{source}' has for some of them only the "
                        "order of their ratings. Use the ratings.dat of GroupLens, or mode random.")
    return prepare(raw=raw, out=out, split=split, vocabulary=vocabulary, dataset=dataset, published=published,
                   oracle=oracle, seconds={"read": round(clock.perf_counter() - begun, 3)}, overwrite=overwrite)


def default_split(dataset: str, source: str | None = None) -> SplitConfig:
    """Returns the split of a data set unless told otherwise.

    MovieLens-1M with the files of the MeLU partition: that partition. Synthetic data: larger pseudo-cold
    shares, because its users have fewer ratings and a validation task needs `min_interactions` of them on
    held-out items.
    """
    if dataset == SYNTHETIC:
        return SplitConfig(validation_user_share=0.15, validation_item_share=0.3)
    if source is not None and _published(dataset, source) is not None:
        return SplitConfig(mode="explicit")
    return SplitConfig()


def _published(dataset: str, source: str):
    partition = getattr(get_reader(dataset), "melu_partition", None)
    return None if partition is None else partition(source)


def _source(dataset: str, source: str | None, *, download: bool, progress: bool) -> str:
    from tfmeta.data import download as downloads

    fetch = {"ml-1m": downloads.download_movielens_1m, "ml-100k": downloads.download_movielens_100k}.get(dataset)
    if fetch is None:
        if source is None:
            raise ConfigError(f"Data set '{dataset}' requires a source, received none. Name one with --source.")
        if download:
            raise ConfigError(f"Data set '{dataset}' cannot be downloaded; only ml-1m and ml-100k can.")
        return source
    if source is not None and not download:
        if not filesystem.is_dir(source):
            raise DataError(f"Source '{source}' is not a directory. Correct --source, or pass --download to fetch "
                            f"{dataset} into it.")
        return source
    cache = os.environ.get("TFMETA_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "tfmeta")
    return fetch(source or cache, progress=progress)


def _read(dataset: str, source: str, schema: Schema | None, *, out: str, progress: bool) -> RawData:
    try:
        return read(dataset, source, schema=schema, progress=progress)
    except TooManyBadRowsError as error:
        path = f"{out}.rejected.parquet"
        if not filesystem.is_remote(out):
            filesystem.makedirs(os.path.dirname(os.path.abspath(out)))
        filesystem.write_bytes(path, to_bytes(rejected_table(error.rejected)))
        raise DataError(f"{error} The rejected rows are in '{path}'.") from None
