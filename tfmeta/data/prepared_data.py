"""Reader of a prepared directory."""

import functools
import hashlib
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.interactions import Interactions
from tfmeta.data.ragged import pad
from tfmeta.data.task_set import TaskSet
from tfmeta.data.training_rows import TrainingRows
from tfmeta.errors import DataError
from tfmeta.io import filesystem

MANIFEST = "manifest.json"
FORMAT = "tfmeta.prepared.v1"
# What training reads. Test tasks are not among it, so the fingerprint cannot depend on them.
TRAINING_FILES = ("feature_spec.json", "users.parquet", "items.parquet", "train.parquet",
                  "tasks/validation.parquet")


class PreparedData:
    """A complete prepared directory: what `tfmeta data prepare` wrote.

        feature_spec.json    the FeatureSpec
        users.parquet        row i is user row i: `user_id`, `partition` (warm | validation | cold), features
        items.parquet        the same for items, with the title column where there is one
        train.parquet        `user_row, item_row, label, time`: warm users x warm items only, sorted by user,
                             whole users in each row group, so that a part of the users can be read alone
        tasks/validation.parquet, tasks/test.parquet
                             `state, user_row, split, query_item, query_label, support_item, support_label`
        rejected.parquet     quarantined rows: `file, row, reason, content`
        oracle.parquet       synthetic data only: the best predictions for the test queries, see `oracle`
        summary.json         counts of everything kept, dropped and split
        manifest.json        format and, per file, its size and SHA-256; written last

    Id columns are named `user_id` and `item_id` whatever they were called in the raw data; the FeatureSpec
    has the original names. Where its `task_side` is item all roles are swapped: users.parquet holds the items (and
    their title), `user_row` is an item's, items.parquet and `item_row` are the users'; states keep their names
    (`item_cold`: a cold item, asked about warm users).

    Feature columns hold raw values, missing ones as `Feature.missing`.

    Args:
      path: the directory, on any file system.
      verify: check every file's size and checksum against the manifest.

    Raises:
      DataError: if the directory is absent, incomplete or was changed after it was written.
    """

    def __init__(self, path: str, *, verify: bool = True):
        self.path = str(path).rstrip("/")
        manifest = filesystem.join(self.path, MANIFEST)
        if not filesystem.exists(manifest):
            raise DataError(f"'{self.path}' is not a prepared directory: it has no {MANIFEST}. "
                            "Create one with 'tfmeta data prepare'.")
        try:
            self.manifest = json.loads(filesystem.read_bytes(manifest))
        except ValueError as error:
            raise DataError(f"'{manifest}' is not valid JSON: {error}. Prepare the data again.") from None
        received = self.manifest.get("format") if isinstance(self.manifest, dict) else self.manifest
        if received != FORMAT:
            raise DataError(f"'{self.path}' requires format {FORMAT}, received {received!r}. Prepare the data "
                            "again with this version.")
        if verify:
            self._verify()

    def _verify(self) -> None:
        for name, entry in self.manifest["files"].items():
            path = filesystem.join(self.path, name)
            if not filesystem.exists(path):
                raise DataError(f"Prepared directory '{self.path}' is incomplete: '{name}' is missing.")
            with filesystem.open_file(path, "rb") as file:
                digest = sha256(file)
            if digest != entry["sha256"]:
                raise DataError(f"File '{path}' was changed after it was written: its checksum differs from "
                                f"the manifest. Prepare the data again.")

    def _table(self, name: str) -> pa.Table:
        return pq.read_table(io.BytesIO(filesystem.read_bytes(filesystem.join(self.path, name))))

    def _frame(self, name: str) -> pd.DataFrame:
        return self._table(name).to_pandas()

    @functools.cached_property
    def feature_spec(self) -> FeatureSpec:
        return FeatureSpec.from_json(filesystem.read_text(filesystem.join(self.path, "feature_spec.json")))

    @functools.cached_property
    def summary(self) -> dict:
        return json.loads(filesystem.read_text(filesystem.join(self.path, "summary.json")))

    @functools.cached_property
    def users(self) -> pd.DataFrame:
        return self._frame("users.parquet")

    @functools.cached_property
    def items(self) -> pd.DataFrame:
        return self._frame("items.parquet")

    @functools.cached_property
    def train(self) -> Interactions:
        """All training interactions, in memory: 20 bytes each."""
        table = self._table("train.parquet")
        columns = {}
        for name in ("user_row", "item_row", "label", "time"):
            columns[name] = table[name].to_numpy()
            table = table.drop_columns(name)  # so that no two forms of more than one column exist
        return Interactions(**columns)

    @property
    def training_rows(self) -> TrainingRows:
        """The training interactions on disk, to be read piece by piece."""
        return TrainingRows(filesystem.join(self.path, "train.parquet"))

    def tasks(self, part: str) -> TaskSet:
        """Returns the `validation` or `test` tasks; empty where the split has none."""
        table = self._table(f"tasks/{part}.parquet")
        columns = {"state": table["state"].to_numpy().astype(str),
                   "user_row": table["user_row"].to_numpy().astype(np.int32),
                   "split": table["split"].to_numpy().astype(np.int32)}
        for side in ("support", "query"):
            item, label = (_lists(table, f"{side}_{name}") for name in ("item", "label"))
            columns[f"{side}_length"] = item[1].astype(np.int32)
            columns[f"{side}_item"] = pad(*item, fill=-1, dtype=np.int32)
            columns[f"{side}_label"] = pad(*label, fill=np.nan, dtype=np.float32)
        return TaskSet(**columns)

    def oracle(self) -> dict[str, np.ndarray] | None:
        """Returns the best achievable predictions for the test queries of synthetic data, None for other
        data.

        Keys: `expected` (given everything the generator knows) and `fold_in_<k>` (given the first k support
        rows), see `SyntheticTruth`; each `[T, Q]` float32 along `tasks("test")`, padding NaN.
        """
        if "oracle.parquet" not in self.manifest["files"]:
            return None
        table = self._table("oracle.parquet")
        return {name: pad(*_lists(table, name), fill=np.nan, dtype=np.float32) for name in table.column_names}

    def training_fingerprint(self) -> str:
        """Returns a SHA-256 over everything that training can see (test tasks excluded)."""
        digest = hashlib.sha256()
        for name in TRAINING_FILES:
            digest.update(f"{name} {self.manifest['files'][name]['sha256']}\n".encode())
        return digest.hexdigest()


def sha256(file) -> str:
    """Returns the SHA-256 of an open binary file in hexadecimal, read in chunks."""
    digest = hashlib.sha256()
    while chunk := file.read(8 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _lists(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (`[sum]` values, `[T]` lengths) of a list column; `flatten` honours the offsets of a slice."""
    column = table[name].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False), np.diff(column.offsets.to_numpy())
