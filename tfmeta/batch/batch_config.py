"""What a batch job is to do."""

import dataclasses
from typing import Literal

from tfmeta.config import require
from tfmeta.errors import ConfigError

MODES = ("score", "recommend", "embed")
OUTPUT_FORMATS = ("parquet", "tfrecord", "bigquery")
BIGQUERY = "bq://"


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """The settings of one job.

    Inputs are paths, globs or `bq://project.dataset.table`; the format of files is told by their names.

    Attributes:
      model: MODEL_BASE (its latest version), MODEL_BASE/N or a flat export.
      out: directory of the output, or `bq://project.dataset.table` with `work`.
      mode: `score` (adapt, then score the candidates given), `recommend` (best of the catalogue for each user) or
        `embed` (each user's adapted state).
      interactions: what users did; none leaves every user unadapted.
      candidates: users and items to score, one a row; mode `score` alone.
      users: one row a user with the model's user features.
      items: one row an item, for models that were exported without a catalogue.
      output_format: of the parts in `out`.
      work: directory for what is between the stages; `out/_work` by default.
      user, item, label, time: columns, where they are not called as in the model or `user_id`, `item_id`, `label` and
        `timestamp`.
      shards: parts of the output, users shared out by a hash; 0 chooses by the size of the input.
      batch_users: tasks of one call of the signature at most.
      max_candidates: candidates of one task at most; longer lists are cut.
      count: items recommended to each user; 0 for as many as the model gives.
      on_bad_shard: `continue` scores what can be read, and fails at the end; `stop` fails before scoring.
      overwrite: replace the output of another job.

    Raises:
      ConfigError: if the mode lacks an input, or a number is out of range.
    """

    model: str
    out: str
    mode: Literal["score", "recommend", "embed"] = "score"
    interactions: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    output_format: Literal["parquet", "tfrecord", "bigquery"] = "parquet"
    work: str | None = None
    user: str | None = None
    item: str | None = None
    label: str | None = None
    time: str | None = None
    shards: int = 0
    batch_users: int = 256
    max_candidates: int = 2048
    count: int = 0
    on_bad_shard: Literal["continue", "stop"] = "continue"
    overwrite: bool = False

    def __post_init__(self):
        require(self.mode in MODES, "mode", f"one of {', '.join(MODES)}", self.mode)
        require(self.output_format in OUTPUT_FORMATS, "output_format", f"one of {', '.join(OUTPUT_FORMATS)}",
                self.output_format)
        require(0 <= self.shards <= 100_000, "shards", "0 to 100000", self.shards)
        require(1 <= self.batch_users <= 65_536, "batch_users", "1 to 65536", self.batch_users)
        require(1 <= self.max_candidates <= 1_000_000, "max_candidates", "1 to 1000000", self.max_candidates)
        require(self.count >= 0, "count", "0 or more", self.count)
        require(self.on_bad_shard in ("continue", "stop"), "on_bad_shard", "continue or stop", self.on_bad_shard)
        if self.mode == "score":
            require(bool(self.candidates), "candidates", "files with users and items in mode score", self.candidates)
        else:
            require(not self.candidates, "candidates", f"none in mode {self.mode}", self.candidates)
            if not (self.users or self.interactions):
                raise ConfigError(f"Mode {self.mode} requires 'users' or 'interactions': whom to answer for.")
        if self.out.startswith(BIGQUERY):
            require(self.output_format == "bigquery", "output_format", f"bigquery for '{self.out}'",
                    self.output_format)
            require(bool(self.work), "work", "a directory for what is between the stages of a job into BigQuery",
                    self.work)
        else:
            require(self.output_format != "bigquery", "out", "bq://project.dataset.table for output to BigQuery",
                    self.out)

    @property
    def work_directory(self) -> str:
        """Where the job keeps what it has done so far."""
        return self.work or f"{self.out.rstrip('/')}/_work"

    @property
    def parts_directory(self) -> str:
        """Where the parts are written: `out`, or below `work` on their way to BigQuery."""
        return f"{self.work_directory}/parts" if self.output_format == "bigquery" else self.out.rstrip("/")
