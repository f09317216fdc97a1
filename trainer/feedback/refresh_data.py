"""The prepared directory of a refresh: old tasks, the window, and the users who arrived last."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa

from tfmeta import config as configs
from tfmeta.data.feature import Feature
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.prepared_tables import to_bytes
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.vocabulary_config import VocabularyConfig
from tfmeta.errors import DataError
from tfmeta.io import filesystem
from trainer.feedback.refresh_config import RefreshConfig

_TIME = "interaction_time"
_REFRESH = "refresh"
# Keeps the choice of old users apart from every other draw of the same seed.
_STREAM = 11


@dataclasses.dataclass(frozen=True)
class RefreshData:
    """What a refresh trains and tests on.

    Attributes:
      prepared: training rows of the old tasks and of the window, test tasks of the users who arrived last.
      new_tasks: users to train on who have an interaction in the window.
      old_tasks: users to train on who have none.
      test_users: users tested on.
      new_items: items with training rows that the last run did not know.
    """

    prepared: PreparedData
    new_tasks: int
    old_tasks: int
    test_users: int
    new_items: int

    def counts(self) -> dict[str, int]:
        """Returns the numbers, JSON-able."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "prepared"}


def refresh_data(events: pd.DataFrame, *, previous: PreparedData, feature_spec: FeatureSpec, config: RefreshConfig,
                 since: int, out: str, users: pd.DataFrame | None = None,
                 items: pd.DataFrame | None = None) -> RefreshData:
    """Prepares a refresh.

    Users whom the last run's data do not have, nor any run before it was trained on, are new; of them those who
    arrived last, `test_share` of all who have enough interactions for a task, are held out for the test, and so is
    everybody who arrived after the first of these. Everybody else is trained on, with what the last run's data have of
    them; so are, as old tasks, the users whom the last refresh held out.

    Args:
      events: outcomes of the window: `user_id, item_id, label, time` (unix seconds).
      previous: the last run's prepared directory.
      feature_spec: the last run's specification; the new one goes on from it.
      config: settings.
      since: start of the window in unix seconds.
      out: prepared directory to write; one that is there is replaced. Beside it `<out>_held_out` names the users of the
        test.
      users, items: `user_id` (`item_id`) and features, newer than those of `previous`.

    Raises:
      DataError: if the tasks are items, or too few users are new.
    """
    if feature_spec.task_side != "user":
        raise DataError("A refresh requires a run whose tasks are users, received one whose tasks are items. Prepare "
                        "and train it anew.")
    ids = {"user_id": feature_spec.user_id, "item_id": feature_spec.item_id}
    events = events[["user_id", "item_id", "label", "time"]].copy()
    for column, feature in ids.items():
        events[column] = _as_ids(events[column], feature, where="The event log")
    users = _newest(previous.users, users, "user_id", feature_spec.user_id)
    items = _newest(previous.items, items, "item_id", feature_spec.item_id)
    test = _arrived_last(events, known=_known(previous, feature_spec), config=config)
    old = _old_rows(previous, keep=set(events["user_id"]), config=config)
    # Without empty frames, whose columns have no type.
    rows = pd.concat([f for f in (_held_out_rows(previous, since=since), old, events) if len(f)], ignore_index=True)
    rows = rows.sort_values("time", kind="stable")
    rows = rows.drop_duplicates(["user_id", "item_id"], keep="last", ignore_index=True)
    schema = _schema(feature_spec)
    names = {column: feature.name for column, feature in ids.items()}
    raw = RawData.from_frames(
        rows.rename(columns={**names, "label": feature_spec.label.name, "time": _TIME}), schema=schema,
        users=_side(users, rows["user_id"], "user_id", feature_spec.user_features).rename(columns=names),
        items=_side(items, rows["item_id"], "item_id", feature_spec.item_features, title=feature_spec.title,
                    everyone=True).rename(columns=names))
    vocabulary = configs.parse(VocabularyConfig, previous.summary.get("vocabulary"), where="vocabulary")
    split = SplitConfig(
        mode="explicit", last_out=True, validation_user_share=0.0, validation_item_share=0.0, warm_test_user_share=0.0,
        query_size=config.query_size, min_interactions=config.min_interactions,
        max_interactions=config.max_interactions, seed=config.seed, **_write_held_out(f"{out}_held_out", test))
    prepared = prepare(raw=raw, out=out, split=split, vocabulary=vocabulary, dataset=_REFRESH, overwrite=True,
                       extend=feature_spec)
    return describe(prepared, feature_spec=feature_spec, since=since)


def describe(prepared: PreparedData, *, feature_spec: FeatureSpec, since: int) -> RefreshData:
    """Returns what a directory that `refresh_data` wrote holds."""
    train = prepared.train
    new = np.unique(train.user_row[train.time >= since])
    return RefreshData(
        prepared=prepared, new_tasks=len(new), old_tasks=len(np.unique(train.user_row)) - len(new),
        test_users=len(np.unique(prepared.tasks("test").user_row)),
        new_items=len(prepared.feature_spec.item_id.vocabulary) - len(feature_spec.item_id.vocabulary))


def interactions_of(prepared: PreparedData) -> pd.DataFrame:
    """Returns the training rows with ids: `user_id, item_id, label, time`."""
    train = prepared.train
    return pd.DataFrame({"user_id": prepared.users["user_id"].to_numpy()[train.user_row],
                         "item_id": prepared.items["item_id"].to_numpy()[train.item_row],
                         "label": train.label, "time": train.time})


def _write_held_out(folder: str, users: list) -> dict[str, str]:
    """Writes the files that an explicit split names: users to hold out, and no items."""
    filesystem.makedirs(folder)
    paths = {}
    for side, ids in (("user", users), ("item", [])):
        paths[f"cold_{side}s"] = filesystem.join(folder, f"{side}s.parquet")
        filesystem.write_bytes(paths[f"cold_{side}s"], to_bytes(pa.table({
            f"{side}_id": pa.array(list(map(str, ids)), pa.string())})))
    return paths


def _known(previous: PreparedData, feature_spec: FeatureSpec) -> set:
    """Returns the users that the last run, or one before it, was trained, validated or tested on."""
    asked = np.concatenate([previous.tasks(part).user_row for part in ("validation", "test")])
    return {*feature_spec.user_id.vocabulary, *previous.users["user_id"].to_numpy()[asked].tolist()}


def _arrived_last(events: pd.DataFrame, *, known: set, config: RefreshConfig) -> list:
    """Returns the new users from the first tested one on, in order of arrival."""
    new = events[~events["user_id"].isin(known)]
    found = new.groupby("user_id")["time"].agg(["min", "size"]).sort_values("min", kind="stable")
    able = found[found["size"] >= config.min_interactions]
    number = round(config.test_share * len(able))
    if number < config.min_test_users:
        raise DataError(f"A refresh requires {config.min_test_users} new users with {config.min_interactions} "
                        f"interactions to test on, received {number} ({config.test_share:.0%} of {len(able)} who are "
                        "new in the window and have as many). Wait for more events, or change window_days, test_share, "
                        "min_interactions or min_test_users.")
    return found.index[found["min"] >= able["min"].iloc[-number]].tolist()


def _old_rows(previous: PreparedData, *, keep: set, config: RefreshConfig) -> pd.DataFrame:
    """Returns the last run's training rows, of all users in `keep` and at most `replay_users` others."""
    rows = interactions_of(previous)
    if config.replay_users is None:
        return rows
    others = np.sort(pd.unique(rows.loc[~rows["user_id"].isin(keep), "user_id"]))
    if len(others) <= config.replay_users:
        return rows
    rng = np.random.default_rng([config.seed, _STREAM])
    chosen = set(rng.choice(others, config.replay_users, replace=False).tolist())
    return rows[rows["user_id"].isin(keep | chosen)]


def _held_out_rows(previous: PreparedData, *, since: int) -> pd.DataFrame:
    """Returns the interactions of the users whom the last refresh tested on; their times keep the order alone.

    The test of other directories is a fixed one, which no training may ever see.
    """
    columns = ["user_id", "item_id", "label", "time"]
    if previous.summary.get("dataset") != _REFRESH:
        return pd.DataFrame(columns=columns)
    tasks = previous.tasks("test")
    parts = []
    for side, later in (("support", 0), ("query", 1)):
        length, width = getattr(tasks, f"{side}_length"), getattr(tasks, f"{side}_item").shape[1]
        real = np.arange(width)[None, :] < length[:, None]
        task, place = np.nonzero(real)
        parts.append(pd.DataFrame({
            "user_id": previous.users["user_id"].to_numpy()[tasks.user_row[task]],
            "item_id": previous.items["item_id"].to_numpy()[getattr(tasks, f"{side}_item")[real]],
            "label": getattr(tasks, f"{side}_label")[real], "time": place + later * tasks.support_item.shape[1]}))
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(time=since - 1 - rows["time"].max() + rows["time"]) if len(rows) else rows


def _schema(spec: FeatureSpec) -> Schema:
    """Returns the declaration that the specification was once fitted by, for data frames."""
    def features(found: tuple[Feature, ...]) -> tuple[FeatureSchema, ...]:
        return tuple(FeatureSchema(f.name, f.kind, dtype=f.dtype, length=f.length, hash_buckets=f.hash_buckets)
                     for f in found)

    label = spec.label
    return Schema(
        label=LabelSchema(name=label.name, unit=label.unit, minimum=label.minimum, maximum=label.maximum,
                          threshold=label.threshold),
        user_id=spec.user_id.name, item_id=spec.item_id.name, user_id_dtype=spec.user_id.dtype,
        item_id_dtype=spec.item_id.dtype, timestamp=_TIME, user_features=features(spec.user_features),
        item_features=features(spec.item_features), title=spec.title)


def _as_ids(values: pd.Series, feature: Feature, *, where: str) -> pd.Series:
    """Returns ids in the raw type of the specification."""
    if feature.dtype == "string":
        return values.astype(str)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        raise DataError(f"{where} requires whole numbers as {feature.name}, received "
                        f"'{values[numbers.isna()].iloc[0]}' ({int(numbers.isna().sum())} such rows).")
    return numbers.astype(np.int64)


def _newest(before: pd.DataFrame, now: pd.DataFrame | None, column: str, feature: Feature) -> pd.DataFrame:
    """Returns one row an id, the newer one where both have it."""
    if now is None or not len(now):
        return before
    now = now.assign(**{column: _as_ids(now[column], feature, where="The event log")})
    return pd.concat([before[~before[column].isin(set(now[column]))], now], ignore_index=True)


def _side(frame: pd.DataFrame, wanted: pd.Series, column: str, features: tuple[Feature, ...], *,
          title: str | None = None, everyone: bool = False) -> pd.DataFrame:
    """Returns the ids that are wanted (or everyone as well) with their features; columns that are missing are empty."""
    ids = pd.Index(pd.unique(wanted))
    ids = ids.union(pd.Index(frame[column])) if everyone else ids
    columns = [column, *(f.name for f in features), *([title] if title else [])]
    return frame.reindex(columns=list(dict.fromkeys(columns))).set_index(column).reindex(ids).rename_axis(
        column).reset_index()
