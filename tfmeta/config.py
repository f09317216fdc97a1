"""Strict parsing of configurations into frozen dataclasses.

An unknown key is an error that names the nearest known one: a misspelt hyper-parameter must never be
ignored. Values are checked against the annotated type; ranges are checked by each class's `__post_init__`.
"""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from tfmeta.errors import ConfigError, suggest

T = TypeVar("T")


def parse(cls: type[T], values: dict[str, Any] | None, *, where: str = "") -> T:
    """Builds the dataclass `cls` from a mapping, recursively.

    Args:
      cls: a dataclass type; fields may be dataclasses, tuples, dicts, optionals and plain values.
      values: the mapping, as read from YAML or JSON.
      where: dotted path of `values` in the whole document, for messages.

    Raises:
      ConfigError: on an unknown or missing key or a value of the wrong type.
    """
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"'{where or cls.__name__}' requires a mapping, received {values!r}.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise ConfigError(f"Unknown key '{_join(where, key)}'.{suggest(key, fields)}")
    kwargs = {}
    for name, field in fields.items():
        if name in values:
            kwargs[name] = _convert(hints[name], values[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"Required key '{_join(where, name)}' is missing.")
    try:
        return cls(**kwargs)
    except ConfigError as error:
        prefix = f"In '{where}': " if where else ""
        raise ConfigError(f"{prefix}{error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the dataclass as plain mappings, lists and scalars, ready for YAML or JSON."""
    return _plain(dataclasses.asdict(config))


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Applies `key.path=value` strings (values in YAML) to a copy of a nested mapping.

    Raises:
      ConfigError: if an override has no `=` or goes through something that is not a mapping.
    """
    import copy

    import yaml

    result = copy.deepcopy(values)
    for override in overrides:
        path, sign, text = override.partition("=")
        if not sign or not path:
            raise ConfigError(f"An override requires the form key.path=value, received '{override}'.")
        node = result
        *parents, last = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"Override '{override}' goes through '{parent}', which is not a mapping.")
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"Override '{override}' is not a YAML value: {error}") from None
    return result


def load_yaml(path: str) -> dict[str, Any]:
    """Reads a YAML mapping from any path; ConfigError names the file where it is absent or malformed."""
    import yaml

    from tfmeta.io import filesystem

    if not filesystem.exists(path):
        raise ConfigError(f"Configuration file '{path}' does not exist.")
    try:
        values = yaml.safe_load(filesystem.read_text(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration file '{path}' is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"Configuration file '{path}' requires a mapping at the top, "
                          f"received {type(values).__name__}.")
    return values


def require(condition: bool, name: str, required: str, received: Any) -> None:
    """Raises ConfigError `'name' requires <required>, received <received>.` unless `condition` holds."""
    if not condition:
        raise ConfigError(f"'{name}' requires {required}, received {received!r}.")


def convert(hint: Any, value: Any, *, where: str) -> Any:
    """Checks a value against a type annotation and converts what YAML writes loosely (lists, 1e-3, whole floats).

    Raises:
      ConfigError: naming `where`, what was required and what was received.
    """
    return _convert(hint, value, where)


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in args:
            if option is type(None):
                continue
            try:
                return _convert(option, value, where)
            except ConfigError as error:
                errors.append(error)
        raise errors[-1]
    if hint is Any:
        return value
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"'{where}' requires one of {', '.join(map(str, args))}, received {value!r}."
                              + (suggest(value, args) if isinstance(value, str) else ""))
        return value
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        return parse(hint, value, where=where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"'{where}' requires a list, received {value!r}.")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(args) != len(value):
            raise ConfigError(f"'{where}' requires {len(args)} values, received {value!r}.")
        return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"'{where}' requires a mapping, received {value!r}.")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as a string; people write it all the same.
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"'{where}' requires {hint.__name__}, received {value!r}.")
    return value
