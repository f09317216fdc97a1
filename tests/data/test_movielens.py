"""MovieLens readers: generated files in the published formats, and the real data where it is at hand."""

import time

import numpy as np
import pandas as pd
import pytest

from tfmeta.data import readers
from tfmeta.data.readers import movielens_1m, movielens_100k
from tfmeta.data.too_many_bad_rows_error import TooManyBadRowsError
from tfmeta.errors import DataError


@pytest.fixture
def ml_1m(tmp_path):
    """A directory with files like those of ml-1m.zip; two users, three films, one bad line."""
    (tmp_path / "users.dat").write_bytes(b"1::F::1::10::48067\n2::M::56::16::70072\n")
    (tmp_path / "movies.dat").write_bytes("1::Toy Story (1995)::Animation|Children's|Comedy\n"
                                          "73::Misérables, Les (1995)::Drama|Musical\n"
                                          "811::Bewegte Mann, Der (1994)::Comedy\n".encode("latin-1"))
    ratings = [(1, 73, 5, 978300760), (1, 1, 3, 978302109), (2, 1, 4, 978298413), (2, 811, 2, 978299000)] + [
        (2, 73, 4, 978299010 + i) for i in range(20)]
    (tmp_path / "ratings.dat").write_text("".join("::".join(map(str, r)) + "\n" for r in ratings) + "2::999::3::1\n")
    return tmp_path


def test_published_files_have_genres_only(ml_1m):
    raw = readers.read("ml-1m", str(ml_1m))
    assert raw.features == raw.counts["features"] == "genres_only"
    assert raw.users.to_dict("records")[0] == {"user_id": 1, "gender": "F", "age": "1", "occupation": "10",
                                               "zip": "48067"}
    film = raw.items.to_dict("records")[1]
    assert film == {"item_id": 73, "genres": ["Drama", "Musical"], "year": "1995", "release_year": 1995.0,
                    "title": "Misérables, Les (1995)"}
    part = raw.interactions
    assert (part.user_row.tolist(), part.item_row.tolist()) == ([0, 0, 1, 1, 1], [1, 0, 0, 2, 1])
    assert part.label.tolist() == [5, 3, 4, 2, 4] and part.time[-1] == 978299029
    assert raw.counts["duplicates"] == 19
    assert raw.rejected[["file", "row", "reason"]].values.tolist() == [["ratings.dat", 24, "unknown_item"]]


def test_extra_film_features_are_full(ml_1m):
    pd.DataFrame({
        "movie_id": [1, 811], "title": ["Toy Story", "x"], "year": ["1996", "N/A"], "rate": ["G", "UNRATED"],
        "released": ["", ""], "genre": ["Animation, Sci-Fi", "N/A"], "director": ["A B", "N/A"],
        "writer": ['C D (story "E, F (G)"), C D (screenplay), H  I, J, K', "N/A"], "actors": ["L, M, N, O", ""],
        "plot": ["A toy.", "N/A"], "poster": ["", ""]}).to_parquet(ml_1m / "movies_extra.parquet")
    pd.DataFrame({"user_id": [1, 1, 1, 2, 2], "movie_id": [1, 73, 860, 1, 73], "rating": [5, 4, 3, 2, 1],
                  "time_rank": [1, 0, -1, 0, 1],
                  "timestamp": pd.array([100, 90, None, 50, 60], "Int32")}).to_parquet(ml_1m / "ratings.parquet")
    raw = readers.read("ml-1m", str(ml_1m))
    assert raw.features == "full" and raw.rejected.empty
    toy, miserables, mann, double = raw.items.to_dict("records")
    assert toy == {"item_id": 1, "genres": ["Animation", "Sci-Fi"], "year": "1996", "release_year": 1996.0,
                   "certificate": "G", "director": ["A B"], "actors": ["L", "M", "N", "O"],
                   "writer": ["C D", "H I", "J"], "plot": "A toy.", "title": "Toy Story (1995)"}
    assert (miserables["genres"], miserables["year"], miserables["plot"]) == (["Drama", "Musical"], "1995", "")
    assert (mann["genres"], mann["year"], mann["director"]) == (["Comedy"], "1994", [])
    assert double == {**mann, "item_id": 860}, "the double of a film that the list has once"
    assert raw.interactions.time.tolist() == [1, 0, -1, 50, 60], "ranks where a user lacks any time"


def test_a_missing_file_and_bad_lines_are_told(ml_1m):
    (ml_1m / "ratings.dat").write_text("1::1::9::5\n")
    with pytest.raises(TooManyBadRowsError, match=r"ratings\.dat.*label_out_of_range"):
        readers.read("ml-1m", str(ml_1m))
    (ml_1m / "ratings.dat").unlink()
    with pytest.raises(DataError, match=r"ratings\.dat"):
        readers.read("ml-1m", str(ml_1m))
    (ml_1m / "users.dat").unlink()
    with pytest.raises(DataError, match=r"users\.dat.*ml-1m\.zip"):
        readers.read("ml-1m", str(ml_1m))
    assert movielens_1m.melu_partition(str(ml_1m)) is None


def test_a_schema_may_take_fewer_features(ml_1m):
    schema = movielens_1m.schema("genres_only")
    fewer = type(schema)(**{**schema.__dict__, "user_features": schema.user_features[:1]})
    assert list(readers.read("ml-1m", str(ml_1m), schema=fewer).users) == ["user_id", "gender"]


def test_published_ml_100k(tmp_path):
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n22\t242\t1\t878887116\n")
    (tmp_path / "u.user").write_text("22|49|M|writer|55105\n196|x|F|other|94043\n")
    flags = "|".join(str(int(i in (3, 5))) for i in range(19))
    none = "|".join("0" * 19)
    (tmp_path / "u.item").write_bytes(f"242|Misérables (1997)|24-Jan-1997||http://x|{flags}\n"
                                      f"267|unknown||||{none}\n".encode("latin-1"))
    raw = readers.read("ml-100k", str(tmp_path))
    film, unknown = raw.items.to_dict("records")
    assert film == {"item_id": 242, "genres": ["Animation", "Comedy"], "year": "1997", "release_year": 1997.0,
                    "title": "Misérables (1997)"}
    assert unknown["genres"] == [] and unknown["year"] == "" and np.isnan(unknown["release_year"])
    assert raw.users["user_id"].tolist() == [22, 196]
    assert raw.counts["bad_features"] == {"age": 1}


def test_atomic_ml_100k(tmp_path):
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n")
    (tmp_path / "ml-100k.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n196\t49\tM\twriter\t55105\n")
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n242\tKolya\tV\tDrama Film-Noir\n")
    raw = readers.read("ml-100k", str(tmp_path))
    film = raw.items.to_dict("records")[0]
    assert film["genres"] == ["Drama", "Film-Noir"] and film["year"] == "" and film["title"] == "Kolya"
    assert raw.users.to_dict("records") == [
        {"user_id": 196, "age": 49.0, "gender": "M", "occupation": "writer", "zip": "55105"}]
    assert raw.interactions.time.tolist() == [881250949]
    (tmp_path / "ml-100k.user").unlink()
    with pytest.raises(DataError, match=r"ml-100k\.user"):
        movielens_100k.read(str(tmp_path))


def test_real_ml_1m(shared_data):
    source = str(shared_data / "data" / "ml-1m")
    start = time.process_time()
    raw = readers.read("ml-1m", source)
    seconds = time.process_time() - start
    assert seconds < 10, "processor seconds, so that a busy machine does not fail the test"
    counts = raw.counts
    assert counts["read"] == counts["kept"] == 1_000_209 and raw.rejected.empty and raw.features == "full"
    assert counts["users"] == 6_040 and counts["items_with_interactions"] == 3_706
    part = raw.interactions
    assert np.bincount(part.label.astype(int)).tolist() == [0, 56174, 107557, 261197, 348971, 226310]
    assert raw.users["zip"].nunique() > 3_000 and (raw.items["year"] != "").all()
    genres = {g for row in raw.items["genres"] for g in row}
    assert len(genres) == 24 and raw.items["genres"].map(len).max() <= 8
    users, items = movielens_1m.melu_partition(source)
    cold_user = np.isin(raw.users["user_id"], users)[part.user_row]
    cold_item = np.isin(raw.items["item_id"], items)[part.item_row]
    cells = [int((u & i).sum()) for u in (~cold_user, cold_user) for i in (~cold_item, cold_item)]
    assert cells == [640_448, 157_456, 163_702, 38_603]


def test_real_ml_1m_is_in_the_order_of_time(shared_data):
    source = shared_data / "data" / "ml-1m"
    ratings = pd.read_parquet(source / "ratings.parquet")
    raw = readers.read("ml-1m", str(source))
    ratings["time"] = raw.interactions.time
    known = ratings[ratings["time_rank"] >= 0].sort_values(["user_id", "time_rank"])
    assert (known.groupby("user_id")["time"].diff().dropna() >= 0).all()
    unplaced = ratings[ratings["time_rank"] < 0]
    first = ratings.groupby("user_id")["time"].min()
    assert (unplaced["time"].to_numpy() == first.loc[unplaced["user_id"]].to_numpy()).all()


def test_real_ml_100k(shared_data):
    raw = readers.read("ml-100k", str(shared_data / "data" / "ml-100k"))
    counts = raw.counts
    assert (counts["kept"], counts["users"], counts["items"]) == (100_000, 943, 1_682) and raw.rejected.empty
    assert raw.users["age"].between(7, 73).all()
