"""Which columns a file must have."""

from collections.abc import Iterable

from tfmeta.data.schema import Schema
from tfmeta.errors import DataError, suggest


def side_columns(schema: Schema, side: str) -> list[str]:
    """Returns the columns of the features (and the title) of side `user` or `item`, without the id."""
    columns = [f.column for f in schema.side(side)[2]]
    if side == "item" and schema.title is not None:
        columns.append(schema.title)
    return list(dict.fromkeys(columns))


def required_columns(schema: Schema, kind: str, *, users: bool = False, items: bool = False) -> list[str]:
    """Returns the columns that files of a kind must have.

    Args:
      schema: the declaration.
      kind: `interactions`, `users` or `items`.
      users, items: whether these have files; otherwise the interactions have their features.
    """
    if kind != "interactions":
        side = kind[:-1]
        return list(dict.fromkeys([schema.side(side)[0], *side_columns(schema, side)]))
    columns = [schema.user_id, schema.item_id]
    if not schema.label.implicit:
        columns.append(schema.label.name)
    if schema.timestamp is not None:
        columns.append(schema.timestamp)
    columns += [] if users else side_columns(schema, "user")
    columns += [] if items else side_columns(schema, "item")
    return list(dict.fromkeys(columns))


def check_columns(file: str, present: Iterable[str], required: Iterable[str]) -> None:
    """Raises DataError, with the nearest name, if a file lacks a column."""
    present = list(present)
    for name in required:
        if name not in present:
            raise DataError(f"File '{file}' requires column '{name}', received columns {present}."
                            f"{suggest(name, present)} Correct the schema or the file.")
