"""What the page asks, checked before anything is made of it."""

import json
import math
from typing import Any

from tfmeta.data.feature import Feature
from tfmeta.errors import DataError, suggest
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.request_error import RequestError

MOST_ITEMS = 2048
_LONGEST_TEXT = 200


def parse(body: bytes, *, fields: dict[str, Any]) -> dict[str, Any]:
    """Reads the JSON object of a request.

    Args:
      body: of the request.
      fields: name -> `check(name, value) -> value`; a field that is absent is checked as None.

    Raises:
      RequestError: INVALID_ARGUMENT, saying what is wrong.
    """
    try:
        request = json.loads(body or b"{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(f"The page requires JSON: {str(error)[:200]}") from None
    if not isinstance(request, dict):
        raise _bad(f"The page requires a JSON object, received {_quote(request)}.")
    for key in request:
        if key not in fields:
            raise _bad(f"Unknown field '{key[:80]}'.{suggest(key[:80], fields)}")
    return {name: check(name, request.get(name)) for name, check in fields.items()}


def model_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _bad(f"'{name}' requires the name of a model, received {_quote(value)}.")
    return value


def version(name: str, value: Any) -> int | None:
    if value is None or (type(value) is int and 0 <= value < 2**63):
        return value
    raise _bad(f"'{name}' requires the number of a version, received {_quote(value)}.")


def text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not _is_text(value):
        raise _bad(f"'{name}' requires at most {_LONGEST_TEXT} characters, received {_quote(value)}.")
    return value


def count(name: str, value: Any) -> int:
    if value is None:
        return 10
    if type(value) is not int or not 1 <= value <= 100:
        raise _bad(f"'{name}' requires a number from 1 to 100, received {_quote(value)}.")
    return value


def mapping(name: str, value: Any) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(f"'{name}' requires an object of feature and value, received {_quote(value)}.")
    return value


def rows(name: str, value: Any) -> list:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        raise _bad(f"'{name}' requires a list of at most {MOST_ITEMS}, received {_quote(value)}.")
    return value


class RequestValues:
    """Turns JSON into what `RequestBatch` takes, in the types of a model's features.

    Forms send text for numbers that a browser cannot hold, so ids and integers may come as text.

    Args:
      description: the model's.
    """

    def __init__(self, description: ModelDescription):
        self._description, self._spec = description, description.feature_spec

    def user(self, values: dict) -> dict:
        """Features of the user; DataError names the one that is wrong."""
        known = {f.name: f for f in self._spec.user_features}
        return self._features(values, known, where="the user")

    def item(self, value: Any, *, where: str):
        """An id, or where the model takes features of items a mapping of feature and value with `item_id`."""
        if self._description.by_id:
            return self._id(value, where)
        if not isinstance(value, dict):
            value = {"item_id": value}
        known = {f.name: f for f in self._spec.item_features}
        features = self._features({k: v for k, v in value.items() if k != "item_id"}, known, where=where)
        return {self._spec.item_id.name: self._id(value.get("item_id"), where), **features}

    def items(self, values: list, *, where: str) -> list:
        """Candidates, or ids to leave out."""
        return [self.item(value, where=f"{where} in row {row}") for row, value in enumerate(values)]

    def support(self, values: list) -> list:
        """(item, label) pairs, oldest first; a click needs no label."""
        pairs = []
        for row, value in enumerate(values):
            where = f"the support in row {row}"
            if not isinstance(value, list) or len(value) != 2:
                raise DataError(f"{where.capitalize()} requires [item, {self._spec.label.name}], received "
                                f"{_quote(value)}.")
            item, label = self.item(value[0], where=where), self._label(value[1], where)
            pairs.append((item, label) if self._description.by_id else {**item, "label": label})
        return pairs

    def text_id(self, item: Any) -> str:
        """Returns the id of an item as text."""
        item = item[self._spec.item_id.name] if isinstance(item, dict) else item
        return "" if item is None else str(item)

    def _label(self, value: Any, where: str) -> float:
        label = self._spec.label
        if value is None and label.unit == "click":
            return 1.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not (
                label.minimum <= value <= label.maximum):
            raise DataError(f"{where.capitalize()} requires a {label.unit} from {label.minimum:g} to "
                            f"{label.maximum:g}, received {_quote(value)}.")
        return float(value)

    def _id(self, value: Any, where: str) -> str | int:
        feature = self._spec.item_id
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(f"{where.capitalize()} requires an id of an item, received {_quote(value)}.")
        return _convert(value, feature, where)

    def _features(self, values: dict, known: dict[str, Feature], *, where: str) -> dict:
        converted = {}
        for name, value in values.items():
            if name not in known:
                raise DataError(f"Unknown feature '{name[:80]}' of {where}.{suggest(name[:80], known)}")
            feature = known[name]
            if isinstance(value, list) != bool(feature.raw_shape) and value is not None:
                raise DataError(f"Feature '{name}' of {where} requires {'a list' if feature.raw_shape else 'one value'}"
                                f", received {_quote(value)}.")
            if isinstance(value, list):
                value = [_convert(v, feature, where) for v in value]
            converted[name] = _convert(value, feature, where) if not isinstance(value, list) else value or None
        return converted


def _convert(value: Any, feature: Feature, where: str):
    """Returns a scalar in the feature's type; text that a form sent for a number is read."""
    if value is None or value == "":
        return None
    wrong = DataError(f"Feature '{feature.name}' of {where} requires "
                      f"{ {'string': 'text', 'int64': 'an integer of 64 bits', 'float32': 'a number'}[feature.dtype]}, "
                      f"received {_quote(value)}.")
    if isinstance(value, bool | list | dict):
        raise wrong
    if feature.dtype == "string":
        if isinstance(value, float):
            raise wrong
        if not _is_text(str(value)):
            raise wrong
        return str(value)
    try:
        number = int(value) if feature.dtype == "int64" and not isinstance(value, float) else float(value)
    except (ValueError, OverflowError):
        raise wrong from None
    if feature.dtype == "float32":
        if not math.isfinite(number) or abs(number) > 3.4e38:
            raise wrong
        return number
    if isinstance(number, float) and not number.is_integer():
        raise wrong
    if not -2**63 <= number < 2**63:
        raise wrong
    return int(number)


def _is_text(value: str) -> bool:
    """Whether a string is Unicode; JSON can also write halves of UTF-16's pairs."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _quote(value: Any) -> str:
    written = json.dumps(value)
    return written if len(written) <= 80 else written[:77] + "..."


def _refuse_constant(word: str):
    raise ValueError(f"{word} is no number of JSON")


def _bad(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", message)
