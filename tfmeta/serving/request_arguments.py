"""What `tfmeta request` was given as arguments of a client's call."""

import argparse
import base64
import binascii
import json
import math
import sys
from typing import Any

from tfmeta.data.feature import Feature
from tfmeta.errors import ConfigError, suggest
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.client.user_state import UserState

_KEYS = ("user", "support", "candidates", "exclude", "state")
_SEPARATOR = "|"


class Words(list):
    """Words of the command line, which become values only when the model's features are known."""


def read_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns one mapping a user from the file and the options.

    Raises:
      ConfigError: if there is nothing, or the file holds something else than requests.
    """
    given = {name: Words(getattr(args, name)) for name in ("user", "support", "candidates", "exclude")
             if getattr(args, name)}
    if args.file is None:
        if not given and args.method is None and args.count is None:
            raise ConfigError("A request requires FILE or some of --user, --support, --candidates, --count and "
                              "--method, received none.")
        return [given]
    if args.file == "-":
        rows = _parse(sys.stdin.buffer.read(), "standard input")
    else:
        with open(args.file, "rb") as file:
            rows = _parse(file.read(), f"'{args.file}'")
    for number, row in enumerate(rows):
        for name in given:
            if name in row:
                raise ConfigError(f"'{name}' requires the file or the option, received both in row {number}.")
    return [{**given, **row} for row in rows]


def to_arguments(rows: list[dict[str, Any]], description: ModelDescription, *, method: str | None
                 ) -> tuple[str, dict[str, Any]]:
    """Returns the client's method and its arguments.

    Args:
      rows: of `read_rows`.
      description: of the model, by which words become values.
      method: the one to call, or None for what the rows ask for.

    Raises:
      ConfigError: if the rows ask for different things, or for less than the method needs.
    """
    keys = {frozenset(row) for row in rows}
    if len(keys) > 1:
        raise ConfigError("Every row requires the same keys, received "
                          f"{' and '.join(str(sorted(k)) for k in sorted(keys, key=sorted))}.")
    (present,) = keys
    method = method or _method(present)
    needed = {"score": {"candidates"}, "adapt_and_score": {"candidates"}, "explain": {"candidates", "support"},
              "adapt": {"support"}, "score_with_state": {"candidates", "state"}, "recommend": set()}[method]
    allowed = {"user"} | needed | ({"support"} if method in ("adapt_and_score", "recommend") else set()) | (
        {"exclude"} if method == "recommend" else set())
    if needed - present or present - allowed:
        raise ConfigError(f"{method} requires {', '.join(sorted(needed)) or 'nothing'}, and may have "
                          f"{', '.join(sorted(allowed - needed))}; received {', '.join(sorted(present)) or 'nothing'}.")
    made = [{name: _CONVERT[name](value, description) for name, value in row.items()} for row in rows]
    if len(made) == 1:
        return method, made[0]
    users = [row.get("user") or {} for row in made]
    return method, {"user": users, **{name: [row[name] for row in made] for name in present - {"user"}}}


def _method(present: frozenset) -> str:
    if "candidates" not in present:
        return "recommend"
    return "score_with_state" if "state" in present else "adapt_and_score" if "support" in present else "score"


def _parse(data: bytes, where: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(data)
    except ValueError as whole:
        try:
            content = [json.loads(line) for line in data.splitlines() if line.strip()]
        except ValueError:
            raise ConfigError(f"Requests require JSON, received in {where}: {whole}.") from None
    rows = content if isinstance(content, list) else [content]
    if not rows:
        raise ConfigError(f"Requests require at least one row, received none in {where}.")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ConfigError(f"A request requires a mapping, received {row!r:.60} in row {number} of {where}.")
        for key in row:
            if key not in _KEYS:
                raise ConfigError(f"Unknown key '{key}' in row {number} of {where}.{suggest(key, _KEYS)}")
    return rows


def _user(value: Any, description: ModelDescription) -> Any:
    if not isinstance(value, Words):
        return value
    features = {f.name: f for f in description.feature_spec.user_features}
    user = {}
    for word in value:
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"--user requires FEATURE=VALUE, received '{word}'.")
        if name not in features:
            raise ConfigError(f"Unknown feature '{name}' of the user.{suggest(name, features)}")
        user[name] = _value(text, features[name])
    return user


def _value(text: str, feature: Feature) -> Any:
    if feature.kind == "dense_vector":
        return [_number(part, feature, float) for part in text.split(_SEPARATOR)]
    if feature.kind == "multi_categorical":
        return text.split(_SEPARATOR) if text else []
    if feature.dtype == "string":
        return text
    if not text:
        return None
    return _number(text, feature, int if feature.dtype == "int64" else float)


def _number(text: str, feature: Feature, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"'{feature.name}' requires {'an integer' if kind is int else 'a number'}, received "
                          f"'{text}'.") from None


def _items(value: Any, description: ModelDescription) -> Any:
    if not isinstance(value, Words):
        return value
    return [_value(word, description.feature_spec.item_id) for word in value]


def _support(value: Any, description: ModelDescription) -> Any:
    spec = description.feature_spec
    if isinstance(value, Words):
        value = [_interaction(word, description) for word in value]
    if spec.label.unit == "click" and isinstance(value, list):
        # Two bare integers would read as an item and its label.
        value = [v if isinstance(v, dict | list | tuple) else {spec.item_id.name: v} for v in value]
    return value


def _interaction(word: str, description: ModelDescription) -> Any:
    spec = description.feature_spec
    item, sign, label = word.rpartition("=")
    if not sign and spec.label.unit == "click":
        return _value(word, spec.item_id)
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if not sign or math.isnan(number):
        raise ConfigError(f"--support requires ITEM=LABEL with a number as the label, received '{word}'.")
    return (_value(item, spec.item_id), number)


def _state(value: Any, description: ModelDescription) -> UserState:
    try:
        return UserState.from_bytes(base64.b64decode(value, validate=True))
    except (TypeError, ValueError, binascii.Error):
        raise ConfigError(f"'state' requires what adapt printed with --json, received {value!r:.40}.") from None


_CONVERT = {"user": _user, "support": _support, "candidates": _items, "exclude": _items, "state": _state}
