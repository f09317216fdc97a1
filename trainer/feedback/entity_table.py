"""The users' and the items' table beside the events: the row given last counts."""

import dataclasses
import io
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.rejects import Rejects
from tfmeta.data.cleaning.side_cleaner import SideCleaner
from tfmeta.data.feature import Feature
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.prepared_tables import feature_array, to_bytes
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError, suggest
from tfmeta.io import filesystem
from trainer.feedback.event_source import EventSource
from trainer.feedback.ingest_report import IngestReport
from trainer.feedback.quarantine import write_quarantine

SIDES = ("user", "item")


def schema_of(spec: FeatureSpec, *, string_ids: bool = False) -> Schema:
    """Returns the declaration of the log's tables, for `RawData.from_frames`.

    Args:
      spec: of the model, with users as users.
      string_ids: ids as the log has them, not as the model wants them.
    """
    label = spec.label
    dtypes = {f"{side}_id_dtype": "string" if string_ids else getattr(spec, f"{side}_id").dtype for side in SIDES}
    return Schema(
        label=LabelSchema(name="label", unit=label.unit, minimum=label.minimum, maximum=label.maximum,
                          threshold=label.threshold),
        timestamp="time", title=spec.title, user_features=tuple(map(_declare, spec.user_features)),
        item_features=tuple(map(_declare, spec.item_features)), **dtypes)


class EntityTable:
    """`LOG/users.parquet` or `LOG/items.parquet`: an id, its features and, of items, the title.

    Args:
      path: of the log.
      side: `user` or `item`.
      spec: of the model, with users as users.
    """

    def __init__(self, path: str, side: str, *, spec: FeatureSpec):
        self._log, self._side, self._spec = path, side, spec
        self._schema = schema_of(spec, string_ids=True)
        self.path = filesystem.join(path, f"{side}s.parquet")

    def read(self) -> pd.DataFrame:
        """Returns the table: `user_id` or `item_id` (str) and the features as `RawData` has them; empty at first."""
        if filesystem.exists(self.path):
            try:
                return pq.read_table(io.BytesIO(filesystem.read_bytes(self.path))).to_pandas()
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"'{self.path}' is damaged: {' '.join(str(error).split())}. Remove it and give the "
                                f"{self._side}s again.") from None
        names = [f"{self._side}_id", *([self._title] if self._title else []), *(f.name for f in self._features)]
        return pd.DataFrame({name: pd.Series(dtype="str" if i == 0 else object) for i, name in enumerate(names)})

    def update(self, source: EventSource, *, max_bad_share: float, progress: bool = False) -> IngestReport:
        """Takes a file's rows in; the table is replaced at once, or left as it is.

        Raises:
          DataError: if the file cannot be read, lacks a column or has too many bad rows.
        """
        rejects, kind = Rejects(), f"{self._side}s"
        cleaner = SideCleaner(self._schema, self._side, rejects=rejects)
        for chunk in self._chunks(source, progress=progress):
            cleaner.add(chunk)
        bad, read = rejects.rows(kind), cleaner.read
        first = rejects.first(kind) if bad else None
        if bad > max_bad_share * read:
            raise DataError(f"{bad:,} of {read:,} rows of '{source.name}' are bad and {max_bad_share:.1%} are allowed, "
                            f"so none was taken. First: data row {first[1]}, {first[2]}: {first[3][:200]}. Mend the "
                            "rows or raise --max-bad-share.")
        frame, _, _ = cleaner.finish()
        if len(rows := rejects.frame()):
            write_quarantine(filesystem.join(self._log, "quarantine", f"{source.digest()[:16]}.parquet"),
                             list(rows.itertuples(index=False, name=None)))
        self._replace(frame)
        by_reason = {False: {}, True: {}}
        for reason, count in sorted(rejects.by_reason[kind].items()):
            by_reason[reason.startswith("bad_feature:")][reason] = count
        return IngestReport(read=read, taken=len(frame), duplicates=read - bad - len(frame), files=1, first_bad=first,
                            quarantined=by_reason[False], replaced=by_reason[True])

    def _replace(self, frame: pd.DataFrame) -> None:
        id_column = f"{self._side}_id"
        stored = self.read()
        both = pd.concat([stored[~stored[id_column].isin(frame[id_column])], frame], ignore_index=True)
        both = both.sort_values(id_column, ignore_index=True)
        columns = {id_column: pa.array(both[id_column].tolist(), pa.string())}
        if self._title is not None:
            columns[self._title] = pa.array(both[self._title].tolist(), pa.string())
        for feature in self._features:
            columns[feature.name] = feature_array(both[feature.name], feature)
        filesystem.write_bytes(self.path, to_bytes(pa.table(columns)))

    def _chunks(self, source: EventSource, *, progress: bool) -> Iterator[Chunk]:
        """Yields the file's columns under the names of the table."""
        names = source.columns()
        own, id_column = getattr(self._spec, f"{self._side}_id").name, f"{self._side}_id"
        given = next((name for name in (own, id_column) if name in names), None)
        if given is None:
            raise DataError(f"File '{source.name}' of {self._side}s requires column '{own}' or '{id_column}', received "
                            f"columns {names}.{suggest(own, names)}")
        wanted = [*(f.name for f in self._features), *([self._title] if self._title else [])]
        for name in wanted:
            if name not in names:
                raise DataError(f"File '{source.name}' of {self._side}s requires column '{name}', received columns "
                                f"{names}.{suggest(name, names)} The model's features and the data must agree.")
        for chunk in source.chunks([given, *wanted], progress=progress):
            yield dataclasses.replace(chunk, columns={id_column: chunk.columns[given],
                                                      **{name: chunk.columns[name] for name in wanted}})

    @property
    def _features(self) -> tuple[FeatureSchema, ...]:
        return self._schema.side(self._side)[2]

    @property
    def _title(self) -> str | None:
        """The title where it is no feature as well."""
        title = self._schema.title if self._side == "item" else None
        return None if title in [f.name for f in self._features] else title


def _declare(feature: Feature) -> FeatureSchema:
    # A fitted categorical or number has nothing to declare but its name.
    length = feature.length if feature.kind in ("multi_categorical", "text", "dense_vector") else None
    return FeatureSchema(name=feature.name, kind=feature.kind, dtype=feature.dtype, length=length,
                         hash_buckets=feature.hash_buckets)
