"""Reader of a prepared directory."""

import functools
import hashlib
import io
import json

import numpy as np
import pandas as pd

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.interactions import Interactions
from tfmeta.data.task_set import TaskSet
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
        train.parquet        `user_row, item_row, label, time`: warm users x warm items only
        tasks/validation.parquet, tasks/test.parquet
                             `state, user_row, split, query_item, query_label, support_item, support_label`
        rejected.parquet     quarantined rows: `file, row, reason, content`
        summary.json         counts of everything kept, dropped and split
        manifest.json        format and, per file, its size and SHA-256; written last

    Id columns are named `user_id` and `item_id` whatever they were called in the raw data; the FeatureSpec
    has the original names. Feature columns hold raw values, missing ones as `Feature.missing`.

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
        self.manifest = json.loads(filesystem.read_text(manifest))
        if self.manifest.get("format") != FORMAT:
            raise DataError(f"'{self.path}' requires format {FORMAT}, received "
                            f"{self.manifest.get('format')!r}. Prepare the data again with this version.")
        if verify:
            self._verify()

    def _verify(self) -> None:
        for name, entry in self.manifest["files"].items():
            path = filesystem.join(self.path, name)
            if not filesystem.exists(path):
                raise DataError(f"Prepared directory '{self.path}' is incomplete: '{name}' is missing.")
            digest = hashlib.sha256(filesystem.read_bytes(path)).hexdigest()
            if digest != entry["sha256"]:
                raise DataError(f"File '{path}' was changed after it was written: its checksum differs from "
                                f"the manifest. Prepare the data again.")

    def _frame(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(filesystem.read_bytes(filesystem.join(self.path, name))))

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
        frame = self._frame("train.parquet")
        return Interactions(**{c: frame[c].to_numpy() for c in ("user_row", "item_row", "label", "time")})

    def tasks(self, part: str) -> TaskSet:
        """Returns the `validation` or `test` tasks; empty where the split has none."""
        frame = self._frame(f"tasks/{part}.parquet")
        columns = {"state": frame["state"].to_numpy(dtype=str),
                   "user_row": frame["user_row"].to_numpy(np.int32),
                   "split": frame["split"].to_numpy(np.int32)}
        for side in ("support", "query"):
            length = frame[f"{side}_item"].map(len).to_numpy(np.int32)
            columns[f"{side}_length"] = length
            columns[f"{side}_item"] = _pad(frame[f"{side}_item"], length, -1, np.int32)
            columns[f"{side}_label"] = _pad(frame[f"{side}_label"], length, np.nan, np.float32)
        return TaskSet(**columns)

    def training_fingerprint(self) -> str:
        """Returns a SHA-256 over everything that training can see (test tasks excluded)."""
        digest = hashlib.sha256()
        for name in TRAINING_FILES:
            digest.update(f"{name} {self.manifest['files'][name]['sha256']}\n".encode())
        return digest.hexdigest()


def _pad(lists: pd.Series, length: np.ndarray, fill, dtype) -> np.ndarray:
    padded = np.full((len(length), max(1, int(length.max(initial=0)))), fill, dtype)
    if len(length) and length.sum():
        padded[np.arange(padded.shape[1])[None, :] < length[:, None]] = np.concatenate(lists.to_list())
    return padded
