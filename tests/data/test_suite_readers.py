"""Readers of Yelp and Gift Cards on small files of their form."""

import gzip
import json

import pandas as pd
import pytest

from tfmeta.data.readers import read
from tfmeta.errors import DataError


def test_yelp_has_positives_in_order_and_items_with_categories(tmp_path):
    pd.DataFrame({"user_id": [1, 1, 2], "item_id": [3, 4, 3], "time_rank": [0, 1, 0]}).astype(
        {"user_id": "int32", "item_id": "int16", "time_rank": "int16"}).to_parquet(tmp_path / "interactions.parquet")
    pd.DataFrame({"item_id": [3, 4], "title": ["A place", None], "categories": ["Food, Greek", ""]}).to_parquet(
        tmp_path / "items.parquet")
    raw = read("yelp", str(tmp_path))
    assert raw.schema.label.unit == "click" and (raw.interactions.label == 1).all()
    assert raw.interactions.time.tolist() == [0, 1, 0]
    assert raw.items["categories"].tolist() == [["Food", "Greek"], []]
    (tmp_path / "items.parquet").unlink()
    with pytest.raises(DataError, match=r"items.parquet"):
        read("yelp", str(tmp_path))


def test_gift_cards_join_reviews_with_what_is_known_of_the_items(tmp_path):
    def write(name, records):
        with gzip.open(tmp_path / name, "wt") as file:
            file.writelines(json.dumps(r) + "\n" for r in records)

    write("Gift_Cards_5.json.gz", [
        {"reviewerID": "a", "asin": "x", "overall": 5.0, "unixReviewTime": 20},
        {"reviewerID": "a", "asin": "y", "overall": 2.0, "unixReviewTime": 10}])
    write("meta_Gift_Cards.json.gz", [
        {"asin": "x", "title": "A card", "brand": "B", "price": "$25.00", "description": ["one", "two"]},
        {"asin": "z", "title": "Nobody's"}])
    raw = read("gift-cards", str(tmp_path))
    assert raw.interactions.label.tolist() == [5.0, 2.0] and raw.interactions.time.tolist() == [20, 10]
    assert raw.items["item_id"].tolist() == ["x", "y"] and raw.items["price"].tolist()[0] == 25.0
    assert raw.items["description"].tolist() == ["one two", ""]
    (tmp_path / "meta_Gift_Cards.json.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"meta_Gift_Cards.json.gz"):
        read("gift-cards", str(tmp_path))
