"""Amazon Gift Cards (2018, 5-core): `Gift_Cards_5.json.gz` and `meta_Gift_Cards.json.gz`, a JSON object a line."""

import json
import re
from collections.abc import Iterator

import pandas as pd

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers.files import open_binary
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError
from tfmeta.io import filesystem

_REVIEWS, _ITEMS = "Gift_Cards_5.json.gz", "meta_Gift_Cards.json.gz"
_PRICE = re.compile(r"\$?(\d+(?:\.\d+)?)")


def schema() -> Schema:
    """Returns the schema of the data set. Texts of reviews are no features: they come with the rating."""
    return Schema(
        label=LabelSchema(name="rating", minimum=1.0, maximum=5.0, threshold=5.0), timestamp="timestamp", title="title",
        item_features=(FeatureSchema("brand", "categorical"), FeatureSchema("price", "numeric"),
                       FeatureSchema("title", "text", length=24, hash_buckets=2048),
                       FeatureSchema("description", "text", length=64, hash_buckets=4096)))


def read(source: str, *, schema: Schema | None = None, progress: bool = False) -> RawData:
    """Reads a directory with both files; items are those that have a review.

    Args:
      source: the directory.
      schema: replaces the schema of this module, to take fewer features or another `max_bad_share`.
      progress: unused, the files are small.

    Raises:
      DataError: if a file is missing or not as described, or too many rows are bad.
    """
    for name in (_REVIEWS, _ITEMS):
        if not filesystem.exists(filesystem.join(str(source), name)):
            raise DataError(f"Amazon Gift Cards requires file '{name}' in '{source}', received none.")
    reviews = pd.DataFrame(
        [{"user_id": r.get("reviewerID"), "item_id": r.get("asin"), "rating": r.get("overall"),
          "timestamp": r.get("unixReviewTime")} for r in _lines(source, _REVIEWS)])
    rated = set(reviews["item_id"])
    items: dict[str, dict] = {item: {"item_id": item} for item in rated}
    for record in _lines(source, _ITEMS):
        if record.get("asin") in rated:
            price = _PRICE.fullmatch(str(record.get("price") or "").strip())
            items[record["asin"]] = {
                "item_id": record["asin"], "title": _text(record.get("title")), "brand": _text(record.get("brand")),
                "price": float(price[1]) if price else None, "description": _text(record.get("description"))}
    columns = ["item_id", "title", "brand", "price", "description"]
    frame = pd.DataFrame([items[item] for item in sorted(rated)], columns=columns)
    return RawData.from_frames(reviews, items=frame, schema=schema or globals()["schema"]())


def _lines(source: str, name: str) -> Iterator[dict]:
    with open_binary(filesystem.join(str(source), name)) as (stream, _):
        try:
            for number, line in enumerate(stream, start=1):
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise DataError(f"'{name}' requires a JSON object in line {number}, received {record!r}.")
                yield record
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"'{name}' in '{source}' cannot be read: {error}") from None


def _text(value) -> str | None:
    """Joins a list of paragraphs; what is empty is missing."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value)
    value = " ".join(str(value or "").split())
    return value or None
