"""A feature specification that goes on where an earlier one ended."""

import dataclasses

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import DataError


def extend_spec(before: FeatureSpec, now: FeatureSpec) -> FeatureSpec:
    """Returns `before` with the new values of `now` at the end of its vocabularies.

    Every known value keeps its transformed integer, every number its standardisation and the label its statistics, so
    weights trained under `before` go on meaning what they meant; only tables get new rows.

    Args:
      before: what the weights were trained with.
      now: as fitted on newer data of the same features.

    Raises:
      DataError: if a feature, the label's unit or the side of the tasks differ.
    """
    for what in ("task_side", "title"):
        if getattr(before, what) != getattr(now, what):
            raise DataError(f"Going on with a feature specification requires {what} {getattr(before, what)!r}, "
                            f"received {getattr(now, what)!r}.")
    if before.label.unit != now.label.unit:
        raise DataError(f"Going on with a feature specification requires labels of unit {before.label.unit}, received "
                        f"{now.label.unit}.")
    parts = {"user_id": _extend(before.user_id, now.user_id), "item_id": _extend(before.item_id, now.item_id)}
    for side in ("user_features", "item_features"):
        known, found = ({f.name: f for f in getattr(spec, side)} for spec in (before, now))
        if set(known) != set(found):
            raise DataError(f"Going on with a feature specification requires its {side.replace('_', ' ')} "
                            f"({', '.join(known) or 'none'}), received {', '.join(found) or 'none'}.")
        parts[side] = tuple(_extend(known[name], found[name]) for name in known)
    return dataclasses.replace(before, **parts)


def _extend(before: Feature, now: Feature) -> Feature:
    for what in ("name", "kind", "dtype", "length"):
        if getattr(before, what) != getattr(now, what):
            raise DataError(f"Going on with feature '{before.name}' requires {what} {getattr(before, what)!r}, "
                            f"received {getattr(now, what)!r}.")
    if before.vocabulary is None:
        return before
    known = set(before.vocabulary)
    return dataclasses.replace(before, vocabulary=(*before.vocabulary,
                                                   *(v for v in now.vocabulary or () if v not in known)))
