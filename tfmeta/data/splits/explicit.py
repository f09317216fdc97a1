"""Splits that come from files: cold and validation ids, and whole test tasks."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pyarrow as pa

from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.split import COLD, WARM, test_cells
from tfmeta.data.splits.task_rows import TaskRows
from tfmeta.data.task_set import STATES
from tfmeta.errors import DataError, suggest
from tfmeta.io import filesystem


@dataclasses.dataclass(frozen=True)
class ExplicitSplit:
    """The parts of a split that files give; None where the split draws them.

    Attributes:
      cold_user, cold_item: `[U]`, `[I]` bool.
      validation_user, validation_item: `[U]`, `[I]` bool.
      tasks: the test tasks.
    """

    cold_user: np.ndarray | None = None
    cold_item: np.ndarray | None = None
    validation_user: np.ndarray | None = None
    validation_item: np.ndarray | None = None
    tasks: TaskRows | None = None


def read_explicit(
    config: SplitConfig,
    *,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    user_row: np.ndarray,
    item_row: np.ndarray,
    published=None,
) -> ExplicitSplit:
    """Reads the files that a split configuration names.

    Args:
      config: the settings.
      user_ids, item_ids: `[U]`, `[I]` ids of the data set.
      user_row, item_row: `[N]` rows of the two for each interaction.
      published: `(cold user ids, cold item ids)` that the data set was published with; used by mode
        `explicit` where the configuration names no files.

    Raises:
      DataError: if a file is absent or malformed, names an id that the data set has not, or a task asks
        about a rating that its state may not contain.
    """
    users, items = _index(user_ids), _index(item_ids)
    parts: dict = {}
    if config.mode == "explicit":
        if config.cold_users is not None:
            parts["cold_user"] = _ids_of_file(config.cold_users, users, "user")
            parts["cold_item"] = _ids_of_file(config.cold_items, items, "item")
        elif published is not None:
            parts["cold_user"] = _mask(published[0], users, "user", "The published partition")
            parts["cold_item"] = _mask(published[1], items, "item", "The published partition")
        else:
            raise DataError(
                "Mode explicit requires cold_users and cold_items for a data set that was published "
                "without a partition. Name both files (--cold-users, --cold-items)."
            )
    if config.validation is not None:
        frame = read_frame(config.validation, ("kind", "id"))
        odd = frame[~frame["kind"].isin(["user", "item"])]
        if len(odd):
            raise DataError(
                f"'{config.validation}' requires kind user or item, received "
                f"'{odd['kind'].iloc[0]}' in row {odd.index[0]}."
            )
        for side, index in (("user", users), ("item", items)):
            ids = frame.loc[frame["kind"] == side, "id"]
            parts[f"validation_{side}"] = _mask(ids, index, side, f"'{config.validation}'")
            if (both := parts[f"validation_{side}"] & parts.get(f"cold_{side}", False)).any():
                example = index.index[np.flatnonzero(both)[0]]
                raise DataError(
                    f"'{config.validation}' holds out {side} '{example}', which is cold already. "
                    f"Validation {side}s must not be cold."
                )
    if config.tasks is not None:
        parts["tasks"] = _tasks(
            config, users, items, user_row, item_row, parts["cold_user"], parts["cold_item"]
        )
    return ExplicitSplit(**parts)


def read_frame(path: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Reads a Parquet file (`.parquet`) or a CSV file and checks that it has the columns.

    Raises:
      DataError: if the file is absent, not readable or lacks a column.
    """
    data = io.BytesIO(filesystem.read_bytes(path))
    try:
        frame = pd.read_parquet(data) if str(path).endswith(".parquet") else pd.read_csv(data)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"'{path}' is not a readable table: {str(error).splitlines()[0]}") from None
    for column in columns:
        if column not in frame.columns:
            raise DataError(
                f"'{path}' requires a column '{column}', received "
                f"{', '.join(map(str, frame.columns))}.{suggest(column, frame.columns)}"
            )
    return frame


def _index(ids) -> pd.Series:
    """Maps the text of an id to its row: files may hold integers where the data set has strings."""
    return pd.Series(
        np.arange(len(ids)), index=pd.Index([str(i) for i in np.asarray(ids).tolist()], dtype=object)
    )


def _rows(ids, index: pd.Series, side: str, where: str) -> np.ndarray:
    text = pd.Index([str(i) for i in np.asarray(ids).tolist()], dtype=object)
    rows = index.index.get_indexer(text)
    if (rows < 0).any():
        raise DataError(
            f"{where} names {side} '{text[np.flatnonzero(rows < 0)[0]]}', who has no row in the data "
            f"set ({int((rows < 0).sum())} such ids). Remove them or prepare the matching data."
        )
    return rows


def _mask(ids, index: pd.Series, side: str, where: str) -> np.ndarray:
    mask = np.zeros(len(index), bool)
    mask[_rows(ids, index, side, where)] = True
    return mask


def _ids_of_file(path: str, index: pd.Series, side: str) -> np.ndarray:
    frame = read_frame(path, ())
    named = [c for c in (f"{side}_id", "id") if c in frame.columns]
    if not named and len(frame.columns) != 1:
        raise DataError(
            f"'{path}' requires one column, or one named '{side}_id' or 'id', received "
            f"{', '.join(map(str, frame.columns))}."
        )
    return _mask(frame[named[0] if named else frame.columns[0]], index, side, f"'{path}'")


def _tasks(config, users, items, user_row, item_row, cold_user, cold_item) -> TaskRows:
    path = config.tasks
    frame = read_frame(path, ("state", "user_id", "split", "items"))
    state = frame["state"].to_numpy(dtype=str)
    if len(unknown := np.flatnonzero(~np.isin(state, STATES))):
        raise DataError(
            f"'{path}' has the unknown state '{state[unknown[0]]}' in row {unknown[0]}."
            f"{suggest(state[unknown[0]], STATES)}"
        )
    if len(broken := np.flatnonzero([not isinstance(i, list | tuple | np.ndarray) for i in frame["items"]])):
        raise DataError(
            f"'{path}' requires a list of items in every row; row {broken[0]} has "
            f"{frame['items'].iloc[broken[0]]!r}. Write the tasks as Parquet."
        )
    length = frame["items"].map(len).to_numpy(np.int64)
    if len(short := np.flatnonzero(length < config.query_size)):
        raise DataError(
            f"'{path}' requires at least query_size = {config.query_size} items per task; row {short[0]} "
            f"has {length[short[0]]}."
        )
    where = f"'{path}'"
    task_user = _rows(frame["user_id"], users, "user", where)
    lists = frame["items"].to_list()
    flat_item = _rows(np.concatenate(lists) if lists else np.zeros(0, np.int64), items, "item", where)
    task = np.repeat(np.arange(len(frame)), length)
    rows = _find(task_user[task], flat_item, user_row, item_row, len(items))
    if len(lost := np.flatnonzero(rows < 0)):
        raise DataError(
            f"'{path}' row {task[lost[0]]} asks about item '{items.index[flat_item[lost[0]]]}', which user "
            f"'{users.index[task_user[task[lost[0]]]]}' did not rate ({len(lost)} such items)."
        )
    pair = np.sort(task * (len(user_row) + 1) + rows)
    if len(twice := np.flatnonzero(pair[1:] == pair[:-1])):
        raise DataError(f"'{path}' row {pair[twice[0]] // (len(user_row) + 1)} names the same item twice.")
    # A task whose rows lie outside its cell would be tested on what training has seen.
    user_side = np.where(cold_user[task_user[task]], COLD, WARM)
    item_side = np.where(cold_item[flat_item], COLD, WARM)
    cells = test_cells(user_side, item_side)
    cells["warm"] = (user_side == WARM) & (item_side == WARM)
    for name, inside in cells.items():
        if len(outside := np.flatnonzero((state[task] == name) & ~inside)):
            bad = outside[0]
            raise DataError(
                f"'{path}' row {task[bad]} of state {name} contains user "
                f"'{users.index[task_user[task[bad]]]}' with item '{items.index[flat_item[bad]]}', which "
                f"is no {name} pair of the cold users and items given."
            )
    position = np.arange(len(task)) - np.repeat(np.cumsum(length) - length, length)
    is_query = position < config.query_size
    return TaskRows(
        state=state,
        user_row=task_user.astype(np.int32),
        split=frame["split"].to_numpy(np.int32),
        support=rows[~is_query],
        support_length=length - config.query_size,
        query=rows[is_query],
        query_length=np.full(len(frame), config.query_size, np.int64),
    )


def _find(users, items, user_row, item_row, width: int) -> np.ndarray:
    """Returns the first interaction of each (user row, item row) pair, -1 where there is none."""
    key = user_row.astype(np.int64) * width + item_row
    order = np.argsort(key, kind="stable")
    wanted = users.astype(np.int64) * width + items
    place = np.minimum(np.searchsorted(key, wanted, sorter=order), max(0, len(key) - 1))
    if not len(key):
        return np.full(len(wanted), -1, np.int64)
    found = order[place]
    return np.where(key[found] == wanted, found, -1)
