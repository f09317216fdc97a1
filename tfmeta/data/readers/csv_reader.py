"""Delimited text files as a schema declares them."""

import itertools

from tfmeta.data.cleaning.assemble import assemble
from tfmeta.data.cleaning.columns import required_columns
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers.delimited_file import CHUNK_CHARACTERS, DelimitedFile
from tfmeta.data.readers.files import find_all
from tfmeta.data.schema import Schema


def read(source: str, *, schema: Schema | None = None, progress: bool = False,
         chunk_characters: int = CHUNK_CHARACTERS) -> RawData:
    """Reads CSV and its like.

    Memory holds 20 bytes a row, the ids, their features and the quarantined rows; never the text.

    Args:
      source: a directory that the schema's paths are relative to, or one interactions file.
      schema: required.
      progress: show a bar per file.
      chunk_characters: text held at once.

    Raises:
      ConfigError: if the schema is absent or names no interactions.
      DataError: if files or columns are missing, or too many rows are bad.
    """
    files = find_all(source, schema, reader="csv")
    names = {"interactions": schema.csv.columns, "users": schema.csv.user_columns, "items": schema.csv.item_columns}

    def chunks(kind):
        if files[kind] is None:
            return None
        wanted = required_columns(schema, kind, users=files["users"] is not None, items=files["items"] is not None)
        return itertools.chain.from_iterable(
            DelimitedFile(path, name=name, options=schema.csv, columns=names[kind], wanted=wanted,
                          chunk_characters=chunk_characters).chunks(progress=progress)
            for path, name in files[kind])

    return assemble(schema, interactions=chunks("interactions"), users=chunks("users"), items=chunks("items"))
