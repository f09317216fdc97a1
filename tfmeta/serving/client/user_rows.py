"""The `user` argument of a client, in whatever form it comes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import DataError, suggest
from tfmeta.serving.client.raw_values import missing_array, raw_values


@dataclasses.dataclass(frozen=True)
class UserRows:
    """Raw features of users.

    Attributes:
      columns: feature name -> `[B, ...]`.
      count: B.
      batched: whether several users were meant; one user alone stands for all of a batch of candidates.
      ids: the users' ids where the rows have them, by which long tables are grouped.
    """

    columns: dict[str, np.ndarray]
    count: int
    batched: bool
    ids: list | None = None

    def for_users(self, users: int) -> "UserRows":
        """Returns the features of a number of users: those of one are those of each."""
        if self.batched or users == 1:
            return self
        return dataclasses.replace(self, columns={k: np.repeat(v, users, axis=0) for k, v in self.columns.items()},
                                   count=users)


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame (pandas or the like), without importing pandas."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def parse_users(value: Any, spec: FeatureSpec) -> UserRows:
    """Reads users.

    Args:
      value: None (nothing known of the user), a mapping of feature -> value (one user), a list of such mappings, a
        mapping of feature -> array `[B, ...]`, or a data frame with a column a feature, one row a user. What a
        mapping leaves out is missing; a data frame needs every feature and may have other columns.
      spec: the model's features.

    Raises:
      DataError: naming the feature and the row that is wrong.
    """
    features, id_names = spec.user_features, (spec.user_id.name, "user_id")
    if value is None:
        return UserRows({f.name: missing_array(f, 1) for f in features}, 1, False)
    if is_frame(value):
        names = list(value.columns)
        for feature in features:
            if feature.name not in names:
                raise DataError(f"The user requires column '{feature.name}', received columns {names}.")
        ids = next((list(value[n]) for n in id_names if n in names), None)
        return UserRows({f.name: raw_values(value[f.name], f, where="the user") for f in features}, len(value), True,
                        ids)
    if isinstance(value, Mapping):
        return _mapping(value, features, id_names)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for row, user in enumerate(value):
            if not isinstance(user, Mapping):
                raise DataError(f"The user requires a mapping of features in every row, received {user!r} in row "
                                f"{row}.")
            check_keys(user, features, id_names, where=f"the user in row {row}")
        columns = {f.name: raw_values([u.get(f.name) for u in value], f, where="the user") for f in features}
        ids = next(([u[n] for u in value] for n in id_names if value and all(n in u for u in value)), None)
        return UserRows(columns, len(value), True, ids)
    raise DataError("The user requires a mapping of features, a list of them or a data frame, received "
                    f"{type(value).__name__}.")


def check_keys(row: Mapping, features: tuple[Feature, ...], others: tuple[str, ...], *, where: str) -> None:
    """Raises DataError at a key that is neither a feature nor one of the others, naming the nearest."""
    known = {f.name for f in features}.union(others)
    for key in row:
        if key not in known:
            raise DataError(f"Unknown feature '{key}' of {where}.{suggest(key, known)}")


def depth(value: Any) -> int | None:
    """Returns how many lists deep a value is, 0 for a scalar, None where that cannot be seen."""
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.ndim
    if isinstance(value, list | tuple | np.ndarray):
        inner = next((d for d in map(depth, value) if d is not None), None)
        return 1 + (inner or 0)
    return None if value is None else 0


def _mapping(value: Mapping, features: tuple[Feature, ...], id_names: tuple[str, ...]) -> UserRows:
    """One user, or columns: which one, the depth of the values says."""
    check_keys(value, features, id_names, where="the user")
    batched = None
    for feature in features:
        found = depth(value.get(feature.name))
        if found is None:
            continue
        own = len(feature.raw_shape)
        if found not in (own, own + 1) or (batched is not None and batched != (found == own + 1)):
            raise DataError(f"Feature '{feature.name}' of the user requires a {'list' if own else 'value'} for one "
                            "user, or one for each of several users like every other feature, received "
                            f"{value[feature.name]!r}.")
        batched = found == own + 1
    if not batched:
        return UserRows({f.name: raw_values([value.get(f.name)], f, where="the user") for f in features}, 1, False,
                        next(([value[n]] for n in id_names if n in value), None))
    counts = {f.name: len(value[f.name]) for f in features if value.get(f.name) is not None}
    if len(set(counts.values())) > 1:
        raise DataError(f"The user requires columns of one length, received {counts}.")
    count = next(iter(counts.values()))
    columns = {f.name: raw_values(value[f.name], f, where="the user") if f.name in counts else missing_array(f, count)
               for f in features}
    return UserRows(columns, count, True, next((list(value[n]) for n in id_names if n in value), None))
