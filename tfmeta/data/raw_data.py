"""Raw data after reading and cleaning, before it is split."""

import dataclasses
from typing import Any

import pandas as pd

from tfmeta.data.interactions import Interactions
from tfmeta.data.schema import Schema


@dataclasses.dataclass(frozen=True)
class RawData:
    """Clean interactions, and every user and item with raw feature values.

    `users` and `items` have one row per id, sorted by id (numbers as numbers, strings by code point), so neither
    the order of files nor the size of chunks shows in them. Where there is a users (items) file, its ids are the
    rows, with interactions or without; else the ids of the kept interactions are.

    A cell of a feature column holds: categorical a string or int64; multi_categorical a list of strings (at most
    `length`); numeric a float32; text a string; dense_vector a float32 array `[length]`. A missing one holds
    `FeatureSchema.missing`.

    Attributes:
      schema: what the data was read by.
      users: `user_id` (str or int64) and a column per user feature.
      items: `item_id` (str or int64), a column per item feature and, named `schema.title`, the title.
      interactions: columns of N rows in their original order, `user_row` and `item_row` int32 rows of `users`
        and `items`. (Once prepared they are sorted; here they are not.) Each (user, item) occurs once.
      rejected: quarantined rows: `file` (relative to the source), `row` (0-based data row in that file),
        `reason`, `content` (the row as JSON). Rows of reason `bad_feature:<name>` were kept without that value.
      counts: JSON-able: `read` = `kept` + `duplicates` + `rejected` (interactions), `rejected_by_reason`, `users`,
        `items`, `users_with_interactions`, `items_with_interactions`, `users_file` and `items_file` (`read`,
        `kept`, `duplicates`, `rejected`; None without a file), `bad_features` (by name), `features`.
      features: `full`, or `genres_only` where a data set was read from its plainer files.
    """

    schema: Schema
    users: pd.DataFrame
    items: pd.DataFrame
    interactions: Interactions
    rejected: pd.DataFrame
    counts: dict[str, Any]
    features: str = "full"

    def swap_sides(self) -> "RawData":
        """Returns the same data with items in the place of users and users in the place of items.

        That is how items become tasks. The title has no place in it.
        """
        schema, rows = self.schema, self.interactions
        schema = dataclasses.replace(
            schema, user_id=schema.item_id, item_id=schema.user_id, user_id_dtype=schema.item_id_dtype,
            item_id_dtype=schema.user_id_dtype, user_features=schema.item_features,
            item_features=schema.user_features, users=schema.items, items=schema.users, title=None)
        return dataclasses.replace(
            self, schema=schema, users=self.items.rename(columns={"item_id": "user_id"}),
            items=self.users.rename(columns={"user_id": "item_id"}),
            interactions=dataclasses.replace(rows, user_row=rows.item_row, item_row=rows.user_row))

    @classmethod
    def from_frames(cls, interactions: pd.DataFrame, *, schema: Schema, users: pd.DataFrame | None = None,
                    items: pd.DataFrame | None = None) -> "RawData":
        """Cleans data frames as if they were files named `interactions`, `users` and `items`.

        Args:
          interactions: a row per interaction, with the columns that `schema` names.
          schema: columns and features; its file names are not used.
          users, items: a row per id; without them the ids and features of `interactions` are used.

        Raises:
          DataError: if a column is absent or the share of bad rows is above `schema.max_bad_share`
            (then a `TooManyBadRowsError`).
        """
        from tfmeta.data.cleaning.assemble import assemble
        from tfmeta.data.cleaning.chunk import Chunk

        def chunks(frame, name):
            return None if frame is None else Chunk.from_frame(frame, file=name)

        return assemble(schema, interactions=chunks(interactions, "interactions"), users=chunks(users, "users"),
                        items=chunks(items, "items"))
