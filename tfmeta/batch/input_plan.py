"""Finds the files of a job, checks their columns and cuts them into splits."""

import dataclasses
import hashlib
import os

import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.batch import record_file
from tfmeta.batch.batch_config import BIGQUERY, BatchConfig
from tfmeta.batch.input_split import InputSplit
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.readers.delimited_file import DelimitedFile
from tfmeta.data.readers.files import find, open_binary
from tfmeta.errors import ConfigError, DataError, suggest
from tfmeta.io import filesystem

KINDS = ("interactions", "candidates", "users")
SPLIT_ROWS = 1 << 20
SHARD_BYTES = 16 << 20
_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}


@dataclasses.dataclass(frozen=True)
class InputPlan:
    """What a job reads.

    Attributes:
      splits: of all kinds.
      tables: kind -> tables of BigQuery.
      unreadable: file -> why it cannot be read.
      size: bytes of all files.
    """

    splits: tuple[InputSplit, ...]
    tables: dict[str, tuple[str, ...]]
    unreadable: dict[str, str]
    size: int


def plan_input(config: BatchConfig, spec: FeatureSpec) -> InputPlan:
    """Looks at every file's columns; reads no rows.

    Raises:
      DataError: if no file matches, or a file lacks a column or has one of another kind.
      ConfigError: if the format of a file is not told by its name.
    """
    splits, tables, unreadable, size = [], {}, {}, 0
    for kind in KINDS:
        patterns = getattr(config, kind)
        tables[kind] = tuple(p.removeprefix(BIGQUERY) for p in patterns if p.startswith(BIGQUERY))
        found = find_files(tuple(p for p in patterns if not p.startswith(BIGQUERY)))
        timed: dict[bool, str] = {}
        for number, path in enumerate(found):
            stat = file_stat(path)
            size += stat[0]
            try:
                names, groups = _look(path)
            except (pa.ArrowException, OSError, UnicodeError, DataError) as error:
                unreadable[path] = one_line(error)
                continue
            columns = columns_of(kind, names, path=path, config=config, spec=spec)
            timed.setdefault("time" in columns, path)
            splits += _split(kind, path, number, columns, groups, stat)
        if kind == "interactions" and len(timed) > 1:
            raise DataError(f"All interactions files require column '{config.time or 'timestamp'}' or none, received "
                            f"'{timed[True]}' with it and '{timed[False]}' without.")
    return InputPlan(tuple(splits), tables, unreadable, size)


def find_files(patterns: tuple[str, ...]) -> list[str]:
    """Returns the files of paths, globs and directories (all files in them but those named `_...` or `....`)."""
    found: dict[str, None] = {}
    for pattern in patterns:
        if filesystem.is_dir(pattern):
            paths = [filesystem.join(pattern, n) for n in filesystem.listdir(pattern) if n[0] not in "_."]
            if not paths:
                raise DataError(f"Directory '{pattern}' requires files, it has none.")
        else:
            folder, slash, last = pattern.rpartition("/")
            folder = folder + slash if filesystem.is_remote(folder + slash) else (folder or ("/" if slash else "."))
            paths = [path if folder != "." else name for path, name in find(folder, (last,))]
        found.update(dict.fromkeys(paths))
    return list(found)


def file_format(path: str) -> str:
    """Returns the format that a name tells; ConfigError for other names."""
    name = path.lower().removesuffix(".gz")
    for ending, kind in _FORMATS.items():
        if name.endswith(ending):
            return kind
    raise ConfigError(f"File '{path}' requires a name that ends in {', '.join(_FORMATS)} (csv and tfrecord also with "
                      ".gz).")


def columns_of(kind: str, names: list[str], *, path: str, config: BatchConfig, spec: FeatureSpec) -> dict[str, str]:
    """Returns what is needed -> the column that has it.

    Raises:
      DataError: if a column is missing; it names the nearest one.
    """
    def column(given: str | None, *usual: str, required: bool = True) -> str | None:
        for name in (given,) if given else usual:
            if name in names:
                return name
        if not required and not given:
            return None
        raise DataError(f"File '{path}' of {kind} requires column '{given or usual[0]}', received columns {names}."
                        f"{suggest(given or usual[0], names)} The model's features and the data must agree.")

    columns = {"user": column(config.user, spec.user_id.name, "user_id")}
    if kind != "users":
        columns["item"] = column(config.item, spec.item_id.name, "item_id")
    if kind == "interactions":
        # Clicks need no label: every row is a positive one.
        found = {"label": column(config.label, spec.label.name, "label", required=spec.label.unit != "click"),
                 "time": column(config.time, "timestamp", required=False)}
        columns |= {name: value for name, value in found.items() if value is not None}
    if kind == "users":
        columns |= {f"feature:{f.name}": column(None, f.name) for f in spec.user_features}
    return columns


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def file_stat(path: str) -> tuple[int, int]:
    """Returns size and time of the last change."""
    if filesystem.is_remote(path):
        import tensorflow as tf

        found = tf.io.gfile.stat(path)
        return found.length, found.mtime_nsec
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _look(path: str) -> tuple[list[str], list[int] | None]:
    """Column names, and rows of each row group of a Parquet file."""
    kind = file_format(path)
    if kind == "parquet":
        with open_binary(path) as (stream, _), pq.ParquetFile(stream) as file:
            metadata = file.metadata
            return file.schema_arrow.names, [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if kind == "csv":
        first = next(iter(DelimitedFile(path, name=path, options=CsvOptions(), chunk_characters=1 << 12).chunks()))
        return list(first.columns), None
    return record_file.column_names(path), None


def _split(kind: str, path: str, number: int, columns: dict[str, str], groups: list[int] | None,
           stat: tuple[int, int]) -> list[InputSplit]:
    def make(bounds, first, rows):
        text = repr((kind, path, stat, bounds, sorted(columns.items())))
        key = f"{kind}-{number:05d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        return InputSplit(kind, path, file_format(path), tuple(columns.items()), number, key, bounds, first, rows)

    if groups is None:
        return [make(None, 0, None)]
    splits, begin, first, rows = [], 0, 0, 0
    for index, count in enumerate(groups):
        rows += count
        if rows >= SPLIT_ROWS or index == len(groups) - 1:
            splits.append(make((begin, index + 1), first, rows))
            begin, first, rows = index + 1, first + rows, 0
    return splits
