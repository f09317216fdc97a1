"""Draws partitions and tasks."""

import numpy as np

from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.random_order import id_hash, pair_hash, random_key
from tfmeta.data.splits.split import COLD, VALIDATION, WARM, Split, test_cells, validation_cells
from tfmeta.data.splits.task_rows import TaskRows
from tfmeta.errors import DataError

# Streams of the random keys: draws of one kind never repeat those of another.
_COLD, _WARM_TEST, _VALIDATION, _TASK = 1, 2, 3, 1000


def draw_split(
    config: SplitConfig,
    *,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    user_row: np.ndarray,
    item_row: np.ndarray,
    time: np.ndarray,
    explicit=None,
) -> Split:
    """Splits interactions into training rows, validation tasks and test tasks.

    Args:
      config: the settings.
      user_ids, item_ids: `[U]`, `[I]` ids.
      user_row, item_row: `[N]` rows of the two.
      time: `[N]` any order-preserving number; ties keep the order of the rows.
      explicit: an `ExplicitSplit` with what was read from files; its parts replace draws.

    Raises:
      DataError: if the interactions cannot be split as asked (no times, nobody left to train on).
    """
    user_hash, item_hash = id_hash(user_ids), id_hash(item_ids)
    temporal = config.mode == "temporal"
    if temporal:
        _check_times(user_row, time)
    row_hash = pair_hash(user_hash[user_row], item_hash[item_row])
    partitions = []
    for side, hashes, rows in (("user", user_hash, user_row), ("item", item_hash, item_row)):
        cold = None if explicit is None else getattr(explicit, f"cold_{side}")
        partition = _cold(
            hashes,
            rows,
            time,
            temporal=temporal,
            seed=config.seed,
            given=cold,
            share=getattr(config, f"cold_{side}_share"),
        )
        partitions.append(partition)
    user_partition, item_partition = partitions

    # Before validation is drawn: the warm state's rows are the same with and without it.
    if explicit is not None and explicit.tasks is not None:
        test, withheld = explicit.tasks, np.zeros(len(user_row), bool)
        withheld[test.query[np.repeat(test.state == "warm", test.query_length)]] = True
        warm_users = np.zeros(len(user_ids), bool)
        warm_users[test.user_row[test.state == "warm"]] = True
    else:
        test, withheld, warm_users = None, np.zeros(len(user_row), bool), np.zeros(len(user_ids), bool)
    not_cold = (user_partition[user_row] != COLD) & (item_partition[item_row] != COLD)
    order = dict(user_row=user_row, time=time, row_hash=row_hash, temporal=config.in_time, config=config)
    if test is None:
        count = np.bincount(user_row[not_cold], minlength=len(user_ids))
        number = round(config.warm_test_user_share * int((user_partition != COLD).sum()))
        able = np.flatnonzero((user_partition != COLD) & (count >= config.min_interactions))
        key = random_key(user_hash[able], seed=config.seed, stream=_WARM_TEST)
        warm_users[able[np.argsort(key, kind="stable")[:number]]] = True
        warm = tasks_of(not_cold & warm_users[user_row], state="warm", splits=1, bounded=False, **order)
        withheld[warm.query] = True

    for side, partition, hashes, rows in (
        ("user", user_partition, user_hash, user_row),
        ("item", item_partition, item_hash, item_row),
    ):
        given = None if explicit is None else getattr(explicit, f"validation_{side}")
        blocked = warm_users if side == "user" else np.zeros(len(partition), bool)
        _hold_out(
            partition,
            hashes,
            rows,
            time,
            temporal=temporal,
            seed=config.seed,
            given=given,
            blocked=blocked,
            share=getattr(config, f"validation_{side}_share"),
        )

    users, items = user_partition[user_row], item_partition[item_row]
    train = (users == WARM) & (items == WARM) & ~withheld
    if not train.any():
        raise DataError(
            f"The split leaves no training rows of {len(user_row)} interactions. Hold out smaller "
            "shares of users and items."
        )
    if config.task_side == "item":
        order["user_row"] = item_row
        warm = warm_item_tasks(train, withheld, item_row=item_row, time=time, row_hash=row_hash, config=config)
    if test is None or config.task_side == "item":
        cold = [
            tasks_of(mask, state=state, splits=config.splits, **order)
            for state, mask in test_cells(users, items).items()
        ]
        test = TaskRows.concatenate([warm, *cold])
    validation = TaskRows.concatenate(
        [
            tasks_of(mask, state=state, splits=config.validation_splits, **order)
            for state, mask in validation_cells(users, items, withheld).items()
        ]
    )
    return Split(
        user_partition=user_partition,
        item_partition=item_partition,
        train=train,
        withheld=withheld,
        validation=validation,
        test=test,
    )


def tasks_of(
    mask: np.ndarray,
    *,
    state: str,
    splits: int,
    user_row: np.ndarray,
    time: np.ndarray,
    row_hash: np.ndarray,
    temporal: bool,
    config: SplitConfig,
    bounded: bool = True,
) -> TaskRows:
    """Draws the tasks of one state from its interactions.

    Random: each split draws an order of the user's rows; the first `query_size` are the query, the rest the
    support in the drawn order. Temporal: the last `query_size` are the query, the earlier ones the support,
    both oldest first. Tasks come sorted by user row, then split.

    Args:
      mask: `[N]` bool, the interactions of the state.
      state: its name.
      splits: number of draws.
      user_row, time, row_hash: `[N]` columns of the interactions; item rows in place of `user_row` make items the
        tasks.
      temporal: order by time instead of drawing.
      config: sizes, bounds and seed.
      bounded: whether `max_interactions` applies.
    """
    count = np.bincount(user_row[mask], minlength=int(user_row.max(initial=-1)) + 1)
    fits = count >= config.min_interactions
    if bounded and config.max_interactions is not None:
        fits &= count <= config.max_interactions
    rows = np.flatnonzero(mask & fits[user_row])
    users = np.flatnonzero(fits)
    length = count[users]
    starts = np.cumsum(length) - length
    position = np.arange(len(rows)) - np.repeat(starts, length)
    is_query = (
        position >= np.repeat(length, length) - config.query_size
        if temporal
        else position < config.query_size
    )
    parts = []
    for split in range(splits):
        key = time[rows] if temporal else random_key(row_hash[rows], seed=config.seed, stream=_TASK + split)
        # lexsort is stable, so equal keys keep the order of the interactions.
        ordered = rows[np.lexsort((key, user_row[rows]))]
        parts.append((ordered[~is_query], ordered[is_query]))
    if not parts or not len(users):
        return TaskRows.concatenate([])
    # Split after split -> user after user: every user's splits stand together.
    take = np.arange(splits * len(users)).reshape(splits, len(users)).T.ravel()
    query = np.stack([q for _, q in parts]).reshape(splits * len(users), config.query_size)[take].ravel()
    support_length = np.tile(length - config.query_size, splits)
    support = _take_segments(np.concatenate([s for s, _ in parts]), support_length, take)
    number = len(take)
    return TaskRows(
        state=np.full(number, state),
        user_row=np.repeat(users, splits).astype(np.int32),
        split=np.tile(np.arange(splits), len(users)).astype(np.int32),
        support=support,
        support_length=support_length[take].astype(np.int64),
        query=query,
        query_length=np.full(number, config.query_size, np.int64),
    )


def warm_item_tasks(train: np.ndarray, withheld: np.ndarray, *, item_row: np.ndarray, time: np.ndarray,
                    row_hash: np.ndarray, config: SplitConfig) -> TaskRows:
    """Makes the warm state's tasks of side item, of the rows that are withheld from training in any case.

    An item's query is `query_size` of its withheld rows, its support all its training rows, both in a drawn order.
    In the order of time the query is its latest withheld rows and the support what came before them. Items with
    fewer withheld rows, or fewer than `min_interactions` in all, have no task.

    Args:
      train, withheld: `[N]` bool.
      item_row, time, row_hash: `[N]` columns of the interactions.
      config: sizes, bounds and seed.
    """
    size, width, temporal = config.query_size, int(item_row.max(initial=-1)) + 1, config.in_time

    def ordered(mask):
        rows = np.flatnonzero(mask)
        key = time[rows] if temporal else random_key(row_hash[rows], seed=config.seed, stream=_TASK)
        return rows[np.lexsort((key, item_row[rows]))]

    query = ordered(withheld)
    count = np.bincount(item_row[query], minlength=width)
    place = np.arange(len(query)) - (np.cumsum(count) - count)[item_row[query]]
    query = query[place >= count[item_row[query]] - size if temporal else place < size]
    if temporal:
        first = np.full(width, np.iinfo(np.int64).max)
        np.minimum.at(first, item_row[query], time[query].astype(np.int64))
        train = train & (time < first[item_row])
    seen = np.bincount(item_row[train], minlength=width)
    able = (count >= size) & (seen >= max(1, config.min_interactions - size))
    items = np.flatnonzero(able)
    if not len(items):
        return TaskRows.concatenate([])
    return TaskRows(
        state=np.full(len(items), "warm"), user_row=items.astype(np.int32), split=np.zeros(len(items), np.int32),
        support=ordered(train & able[item_row]), support_length=seen[items].astype(np.int64),
        query=query[able[item_row[query]]], query_length=np.full(len(items), size, np.int64))


def _take_segments(values: np.ndarray, length: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Reorders consecutive segments of `values` (segment lengths `length`) by `order`."""
    start = np.cumsum(length) - length
    taken = length[order]
    offset = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    return values[np.repeat(start[order], taken) + offset]


def _cold(hashes, rows, time, *, temporal, seed, share, given) -> np.ndarray:
    seen = np.bincount(rows, minlength=len(hashes)) > 0
    partition = np.where(seen, WARM, COLD).astype(np.int8)
    if given is not None:
        partition[given] = COLD
        return partition
    number = round(share * int(seen.sum()))
    partition[_order(np.flatnonzero(seen), hashes, rows, time, temporal, seed, _COLD)[:number]] = COLD
    return partition


def _hold_out(partition, hashes, rows, time, *, temporal, seed, share, given, blocked) -> None:
    if given is not None:
        partition[given & (partition == WARM)] = VALIDATION
        return
    number = round(share * int((partition == WARM).sum()))
    able = np.flatnonzero((partition == WARM) & ~blocked)
    partition[_order(able, hashes, rows, time, temporal, seed, _VALIDATION)[:number]] = VALIDATION


def _order(able, hashes, rows, time, temporal, seed, stream) -> np.ndarray:
    """Orders candidates: at random, or the latest first appearance first with ties at random."""
    key = random_key(hashes[able], seed=seed, stream=stream)
    if not temporal:
        return able[np.argsort(key, kind="stable")]
    first = np.full(len(hashes), np.iinfo(np.int64).max)
    np.minimum.at(first, rows, time.astype(np.int64))
    return able[np.lexsort((key, -first[able]))]


def _check_times(user_row: np.ndarray, time: np.ndarray) -> None:
    if len(time) == 0 or time.min() == time.max():
        raise DataError(
            "Mode temporal requires a time for the interactions, received none. Name the time column "
            "in the schema, or use mode random."
        )
    first = np.full(int(user_row.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, user_row, time.astype(np.int64))
    first = first[np.bincount(user_row) > 0]
    if len(first) > 1 and first.min() == first.max():
        raise DataError(
            f"Mode temporal requires times that compare between users; all {len(first)} users begin at "
            f"{first[0]}, as ranks within a user do. Use mode random."
        )
