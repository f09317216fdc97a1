"""The `candidates`, `support` and `exclude` arguments of a client, in whatever form they come."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmeta.data.feature import Feature
from tfmeta.errors import DataError
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.client.ragged import Ragged
from tfmeta.serving.client.raw_values import is_missing, missing_array, raw_values
from tfmeta.serving.client.user_rows import UserRows, check_keys, depth, is_frame

_SCALARS = (str, bytes, int, np.integer)


class ItemLists:
    """Reads lists of items for one model.

    A list of one user is: ids; mappings of feature -> value; a mapping of feature -> array `[N, ...]`; or a data
    frame. Lists of several users are: a list of such lists, an array `[B, N]` of ids, a mapping of feature ->
    `[B, N, ...]`, or a data frame with the users' ids in a column, grouped by the ids of the `user` argument.

    A support has labels: `(item, label)` pairs, or the label as one more key or column, under its own name or as
    `label`. Clicks need none, every one is 1.

    Args:
      description: the model's.
      users: the `user` argument.
    """

    def __init__(self, description: ModelDescription, *, users: UserRows):
        spec = description.feature_spec
        self._description, self._spec, self._users = description, spec, users
        self._item_names = (spec.item_id.name, "item_id")
        self._user_names = (spec.user_id.name, "user_id")
        self._label_names = (spec.label.name, "label")

    def candidates(self, value: Any) -> Ragged:
        """Items to score, with the features that a request carries."""
        return self._parse(value, "the candidates", self._description.item_features, labelled=False)

    def support(self, value: Any) -> Ragged:
        """Interactions, oldest first; None is an empty list."""
        return self._parse([] if value is None else value, "the support", self._description.item_features,
                           labelled=True)

    def exclude(self, value: Any) -> Ragged:
        """Ids of items to leave out."""
        return self._parse([] if value is None else value, "exclude", (self._spec.item_id,), labelled=False)

    def _parse(self, value, where: str, features: tuple[Feature, ...], *, labelled: bool) -> Ragged:
        if is_frame(value):
            return self._frame(value, where, features, labelled)
        if isinstance(value, Mapping):
            return self._columns(value, where, features, labelled)
        if hasattr(value, "to_numpy"):
            value = value.to_numpy()
        if isinstance(value, np.ndarray) and value.ndim == 2 and not labelled:
            return self._join([(self._ids(value.ravel(), where, features), None)],
                              np.full(len(value), value.shape[1]), features)
        if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
            raise DataError(f"{where.capitalize()} require a list, an array or a data frame, received "
                            f"{value!r:.80}.")
        if len(value) and self._is_list(value[0], labelled):
            return self._nested(value, where, features, labelled)
        columns, labels = self._flat(value, where, features, labelled)
        return Ragged(features, columns, np.array([len(value)], np.int64), False, labels)

    def _is_list(self, element, labelled: bool) -> bool:
        """Whether an element is the list of one user rather than an item or an interaction."""
        if is_frame(element) or element is None:
            return is_frame(element) or labelled
        if not isinstance(element, list | tuple | np.ndarray):
            return False
        return not labelled or not _is_pair(element)

    def _nested(self, value, where, features, labelled) -> Ragged:
        lists = [[] if v is None else v for v in value]
        for user, part in enumerate(lists):
            if not (is_frame(part) or isinstance(part, list | tuple | np.ndarray)):
                raise DataError(f"{where.capitalize()} require a list for every user, received {part!r:.80} for user "
                                f"{user}.")
        counts = np.array([len(v) for v in lists], np.int64)
        if any(map(is_frame, lists)):
            parts = [self._rows_of_frame(v, where, features, labelled) if is_frame(v)
                     else self._flat(v, where, features, labelled) for v in lists]
        else:
            parts = [self._flat(list(itertools.chain.from_iterable(lists)), where, features, labelled)]
        return self._join(parts, counts, features)

    def _join(self, parts, counts, features) -> Ragged:
        columns = {f.name: np.concatenate([c[f.name] for c, _ in parts]) for f in features}
        labels = None if parts[0][1] is None else np.concatenate([labels for _, labels in parts])
        return Ragged(features, columns, np.asarray(counts, np.int64), True, labels)

    def _flat(self, value, where, features, labelled) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Columns `[N, ...]` and labels `[N]` of one list."""
        if not labelled:
            return self._items(value, where, features), None
        pairs = [_is_pair(v) for v in value]
        if all(pairs):
            return (self._items([v[0] for v in value], where, features),
                    self._labels([v[1] for v in value], where))
        rows = [isinstance(v, Mapping) for v in value]
        if all(rows):
            return self._items(value, where, features), self._labels(
                [next((v[n] for n in self._label_names if n in v), None) for v in value], where)
        if not any(pairs) and not any(rows) and self._spec.label.unit == "click":
            return self._items(value, where, features), np.ones(len(value), np.float32)
        odd = value[next(i for i, known in enumerate(pairs if any(pairs) else rows) if not known)]
        raise DataError(f"{where.capitalize()} require (item, {self._spec.label.name}) pairs or mappings, received "
                        f"{odd!r:.80}.")

    def _items(self, value, where, features) -> dict[str, np.ndarray]:
        if value.dtype != object if isinstance(value, np.ndarray) else set(map(type, value)) <= {str, int}:
            return self._ids(value, where, features)
        mappings = [isinstance(v, Mapping) for v in value]
        if not any(mappings):
            return self._ids(value, where, features)
        if not all(mappings):
            odd = value[mappings.index(False)]
            raise DataError(f"{where.capitalize()} require ids or mappings of features, not both, received "
                            f"{odd!r:.80} in row {mappings.index(False)}.")
        spec = self._spec
        known = (*self._item_names, *self._user_names, *self._label_names, *((spec.title,) if spec.title else ()),
                 *(f.name for f in spec.item_features))
        for row, item in enumerate(value):
            check_keys(item, features, known, where=f"{where} in row {row}")
        return {f.name: raw_values([self._of_item(v, f, where, row) for row, v in enumerate(value)], f, where=where)
                for f in features}

    def _of_item(self, item: Mapping, feature: Feature, where: str, row: int):
        if feature is not self._spec.item_id:
            return item.get(feature.name)
        for name in self._item_names:
            if name in item:
                return item[name]
        if self._description.by_id:
            raise DataError(f"{where.capitalize()} require '{feature.name}' in every row, received {dict(item)!r:.80} "
                            f"in row {row}.")
        return None

    def _ids(self, value, where, features) -> dict[str, np.ndarray]:
        if len(features) > 1 and len(value):
            raise DataError(f"{where.capitalize()} require the items' features with their ids, because the model was "
                            f"exported without a catalogue: {', '.join(f.name for f in features)}. Received "
                            f"{value[0]!r:.80}.")
        plain = value.dtype != object if isinstance(value, np.ndarray) else set(map(type, value)) <= {str, int}
        for row, item in enumerate(() if plain else value):
            if isinstance(item, bool) or not (isinstance(item, _SCALARS) or is_missing(item)):
                raise DataError(f"{where.capitalize()} require ids, received {item!r:.80} in row {row}.")
        item_id = self._spec.item_id
        return {item_id.name: raw_values(value, item_id, where=where),
                **{f.name: missing_array(f, 0) for f in features[1:]}}

    def _labels(self, values, where) -> np.ndarray:
        name, kind = self._spec.label.name, Feature(self._spec.label.name, "numeric", "float32")
        if self._spec.label.unit == "click" and all(v is None for v in values):
            return np.ones(len(values), np.float32)
        for row, value in enumerate(values):
            if value is None:
                raise DataError(f"{where.capitalize()} require '{name}' for every item, received none in row {row}.")
        return raw_values(values, kind, where=where)

    def _rows_of_frame(self, frame, where, features, labelled) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        names = list(frame.columns)
        columns = {}
        for feature in features:
            accepted = self._item_names if feature is self._spec.item_id else (feature.name,)
            name = next((n for n in accepted if n in names), None)
            if name is None:
                raise DataError(f"{where.capitalize()} require column '{feature.name}', received columns {names}.")
            columns[feature.name] = raw_values(frame[name], feature, where=where)
        if not labelled:
            return columns, None
        label = next((n for n in self._label_names if n in names), None)
        if label is None and self._spec.label.unit != "click":
            raise DataError(f"{where.capitalize()} require column '{self._spec.label.name}', received columns {names}.")
        if label is None:
            return columns, np.ones(len(frame), np.float32)
        return columns, raw_values(frame[label], Feature(label, "numeric", "float32"), where=where)

    def _frame(self, frame, where, features, labelled) -> Ragged:
        columns, labels = self._rows_of_frame(frame, where, features, labelled)
        user = next((n for n in self._user_names if n in frame.columns), None)
        keys, known = [] if user is None else list(frame[user]), self._users.ids
        if user is not None and known is None and len(set(keys)) > 1:
            raise DataError(f"{where.capitalize()} have several users in column '{user}'; the user argument requires "
                            "that column too, so that they can be told apart.")
        if user is None or known is None:
            return Ragged(features, columns, np.array([len(frame)], np.int64), False, labels)
        place = {key: row for row, key in enumerate(known)}
        if len(place) < len(known):
            raise DataError(f"The users require ids that differ, so that {where} can be grouped by column '{user}'.")
        rows = np.array([place.get(key, -1) for key in keys], np.int64)
        if len(rows) and rows.min() < 0:
            raise DataError(f"{where.capitalize()} require users of the user argument in column '{user}', received "
                            f"{keys[int(np.argmin(rows))]!r}.")
        if not self._users.batched:
            return Ragged(features, columns, np.array([len(frame)], np.int64), False, labels)
        order = np.argsort(rows, kind="stable")
        return Ragged(features, {k: v[order] for k, v in columns.items()},
                      np.bincount(rows, minlength=len(place)).astype(np.int64), True,
                      None if labels is None else labels[order])

    def _columns(self, value: Mapping, where, features, labelled) -> Ragged:
        """Columns of one user `[N, ...]` or of several `[B, N, ...]`, these with an optional `length` `[B]`."""
        check_keys(value, features, (*self._item_names, *self._label_names, "length"), where=where)
        values = {f.name: next((value[n] for n in (self._item_names if f is self._spec.item_id else (f.name,))
                                if n in value), None) for f in features}
        ids = values[self._spec.item_id.name]
        levels = None if ids is None else depth(ids)
        if levels not in (1, 2):
            raise DataError(f"{where.capitalize()} require '{self._spec.item_id.name}' as an array [items] or [users, "
                            f"items], received {ids!r:.80}.")
        if labelled:
            label = next((value[n] for n in self._label_names if n in value), None)
            if label is None and self._spec.label.unit != "click":
                raise DataError(f"{where.capitalize()} require '{self._spec.label.name}', received {sorted(value)}.")
            label = np.ones(np.shape(ids), np.float32) if label is None else label
        rows = np.shape(np.asarray(ids, dtype=object))
        if len(rows) != levels:
            raise DataError(f"{where.capitalize()} require arrays whose rows have one length; pass lists of lists for "
                            "others.")
        columns = {}
        for feature in features:
            column = values[feature.name]
            if column is None:
                columns[feature.name] = missing_array(feature, int(np.prod(rows)))
                continue
            columns[feature.name] = raw_values(_merge_axes(column, levels, rows, feature.name, where), feature,
                                               where=where)
        labels = None
        if labelled:
            labels = raw_values(_merge_axes(label, levels, rows, "label", where),
                                Feature(self._spec.label.name, "numeric", "float32"), where=where)
        if levels == 1:
            return Ragged(features, columns, np.array(rows, np.int64), False, labels)
        counts = np.full(rows[0], rows[1], np.int64)
        if "length" in value:
            counts = np.clip(np.asarray(value["length"]).astype(np.int64).reshape(rows[0]), 0, rows[1])
            keep = (np.arange(rows[1])[None, :] < counts[:, None]).ravel()
            columns = {k: v[keep] for k, v in columns.items()}
            labels = None if labels is None else labels[keep]
        return Ragged(features, columns, counts, True, labels)


def _is_pair(value) -> bool:
    """Whether a value is (item, label): two things of which the second is a number or nothing."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.dtype == object else ()
    return (isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], (*_SCALARS, Mapping))
            and (value[1] is None or isinstance(value[1], int | float | np.integer | np.floating)))


def _merge_axes(column, levels: int, rows: tuple[int, ...], name: str, where: str):
    """Joins the axes of users and items of a column; `[B, N, ...]` -> `[B * N, ...]`."""
    if levels == 1:
        flat = column
    elif isinstance(column, np.ndarray) and column.dtype != object:
        flat = column.reshape(-1, *column.shape[2:])
    else:
        flat = list(itertools.chain.from_iterable(column))
    if len(flat) != int(np.prod(rows)):
        raise DataError(f"'{name}' of {where} requires {int(np.prod(rows))} values like the ids, received {len(flat)}.")
    return flat
