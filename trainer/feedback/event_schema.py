"""The columns of an event, and where a file has them."""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ConfigError, DataError, suggest

LAYOUT_VERSION = 1
KINDS = ("request", "outcome")
EVENT_SCHEMA = pa.schema([
    ("event_id", pa.string()), ("kind", pa.string()), ("time", pa.int64()), ("request_id", pa.string()),
    ("user_id", pa.string()), ("item_id", pa.string()), ("label", pa.float64()), ("score", pa.float64()),
    ("model_version", pa.int64()), ("adapted", pa.bool_())])
# What a file may name otherwise; the kind is the same for all rows of a file.
MAPPABLE = tuple(name for name in EVENT_SCHEMA.names if name != "kind")
_SECONDS_A_DAY = 86_400


def resolve_columns(kind: str, names: Iterable[str], *, file: str, spec: FeatureSpec,
                    given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns event column -> column of a file that has it.

    Without a name given, the usual ones are tried: the model's own (such as `spec.user_id.name`), then the event's;
    a time may also be called `timestamp`. Requests need no label, outcomes no score; clicks need no label, because
    every row is a positive one.

    Args:
      kind: one of `KINDS`.
      names: the file's columns.
      file: its name, for messages.
      spec: of the model, with users as users.
      given: event column -> the file's name for it.

    Raises:
      ConfigError: if `kind` or a key of `given` is unknown.
      DataError: if a column is missing; it names the nearest one.
    """
    if kind not in KINDS:
        raise ConfigError(f"'kind' requires one of {', '.join(KINDS)}, received {kind!r}.{suggest(kind, KINDS)}")
    given, names = dict(given or {}), list(names)
    for key in given:
        if key not in MAPPABLE:
            raise ConfigError(f"Unknown event column '{key}'.{suggest(key, MAPPABLE)}")
    usual = {"user_id": (spec.user_id.name, "user_id"), "item_id": (spec.item_id.name, "item_id"),
             "time": ("time", "timestamp"), "label": (spec.label.name, "label")}
    required = {"user_id", "item_id", "time"}
    if kind == "outcome" and spec.label.unit != "click":
        required.add("label")
    found = {}
    for column in MAPPABLE:
        if column == ("label" if kind == "request" else "score") and column not in given:
            continue
        tried = (given[column],) if column in given else usual.get(column, (column,))
        name = next((n for n in tried if n in names), None)
        if name is not None:
            found[column] = name
        elif column in given or column in required:
            raise DataError(f"File '{file}' of {kind}s requires column '{tried[0]}' ({column}), received columns "
                            f"{names}.{suggest(tried[0], names)} Name another with --column {column}=NAME.")
    return found


def day_of(time):
    """Returns the day of a time in unix seconds (a number or an array), counted from 1970-01-01 (UTC)."""
    return time // _SECONDS_A_DAY


def natural_spec(spec: FeatureSpec) -> FeatureSpec:
    """Returns the specification with users as users, whichever side its tasks are."""
    return spec.swap_sides() if spec.task_side == "item" else spec
