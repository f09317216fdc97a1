"""MovieLens-1M: GroupLens's own files, or ratings in Parquet with richer movie features."""

import dataclasses
import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa

from tfmeta.data.cleaning.assemble import assemble
from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.values import to_integers
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers.delimited_file import DelimitedFile
from tfmeta.data.readers.parquet_reader import parquet_chunks
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError
from tfmeta.io import filesystem

_DAT = CsvOptions(separator="::", quote=None, encoding="latin-1")
_USER_COLUMNS = ("user_id", "gender", "age", "occupation", "zip")
_MOVIE_COLUMNS = ("movie_id", "title", "genres")
_RATING_COLUMNS = ("user_id", "movie_id", "rating", "timestamp")
_PARQUET_RATING_COLUMNS = ("user_id", "movie_id", "rating", "time_rank", "timestamp")
_EXTRA_COLUMNS = ("movie_id", "year", "rate", "genre", "director", "writer", "actors", "plot")
# The only two films that are in the list twice. Files that leave the doubles out have ratings of them all the same.
_SAME_FILM = {860: 811, 1795: 1741}
_YEAR = re.compile(r"\((\d{4})\)\s*$")


def schema(features: str = "full") -> Schema:
    """Returns the schema of the data set.

    Args:
      features: `full` (with certificate, people and plot) or `genres_only`.
    """
    items = [FeatureSchema("genres", "multi_categorical", length=8),
             FeatureSchema("year", "categorical"),
             FeatureSchema("release_year", "numeric")]
    if features == "full":
        items += [FeatureSchema("certificate", "categorical"),
                  FeatureSchema("director", "multi_categorical", length=3),
                  FeatureSchema("actors", "multi_categorical", length=4),
                  FeatureSchema("writer", "multi_categorical", length=3),
                  FeatureSchema("plot", "text", length=64, hash_buckets=4096)]
    return Schema(
        label=LabelSchema(name="rating", unit="rating", minimum=1.0, maximum=5.0, threshold=4.0),
        user_id="user_id", item_id="movie_id", user_id_dtype="int64", item_id_dtype="int64",
        timestamp="timestamp", title="title", item_features=tuple(items),
        user_features=tuple(FeatureSchema(name, "categorical") for name in _USER_COLUMNS[1:]))


def read(source: str, *, schema: Schema | None = None, progress: bool = False) -> RawData:
    """Reads a directory with users.dat, movies.dat and ratings.

    Ratings are `ratings.parquet` (`user_id, movie_id, rating, time_rank, timestamp`), else GroupLens's `ratings.dat`.
    With `movies_extra.parquet` the features are `full`, else `genres_only`. Where any timestamp of a user is null,
    that user's times are the time ranks: times order the interactions of one user.

    Args:
      source: the directory.
      schema: replaces the schema of this module, to take fewer features or another `max_bad_share`.
      progress: show progress on stderr.

    Raises:
      DataError: if a file is missing or too many rows are bad.
    """
    source = str(source)
    for name in ("users.dat", "movies.dat"):
        if not filesystem.exists(filesystem.join(source, name)):
            raise DataError(f"MovieLens-1M requires file '{name}' in '{source}', received none. "
                            "Unpack ml-1m.zip of GroupLens there; "
                            "'tfmeta data prepare' without --source downloads it.")
    features = "full" if filesystem.exists(filesystem.join(source, "movies_extra.parquet")) else "genres_only"
    schema = schema or globals()["schema"](features)
    parquet = filesystem.exists(filesystem.join(source, "ratings.parquet"))
    movies = [_movies(source, features)]
    if parquet:
        ratings = [_parquet_ratings(source, progress)]
        movies.append(_doubles(movies[0], ratings[0]))
    else:
        ratings = _dat(source, "ratings.dat", _RATING_COLUMNS, progress)
    return assemble(schema, interactions=ratings, users=_dat(source, "users.dat", _USER_COLUMNS), items=movies,
                    features=features)


def melu_partition(source: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (cold user ids, cold item ids), int64 and ascending: the published partition of MeLU.

    Lee et al., "MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation", KDD 2019, section 4.1.

    Args:
      source: a directory with `melu_split_users.parquet` and `melu_split_items.parquet`; None is returned where it
        has not both.
    """
    parts = []
    for file, column in (("melu_split_users.parquet", "user_id"), ("melu_split_items.parquet", "movie_id")):
        path = filesystem.join(str(source), file)
        if not filesystem.exists(path):
            return None
        frame = pd.read_parquet(io.BytesIO(filesystem.read_bytes(path)), columns=[column, "melu_cold"])
        parts.append(np.sort(frame.loc[frame["melu_cold"], column].to_numpy(np.int64)))
    return parts[0], parts[1]


def _dat(source: str, name: str, columns: tuple[str, ...], progress: bool = False):
    return DelimitedFile(filesystem.join(source, name), name=name, options=_DAT, columns=columns).chunks(
        progress=progress)


def _parquet_ratings(source: str, progress: bool) -> Chunk:
    name = "ratings.parquet"
    chunk = Chunk.concat(list(parquet_chunks(filesystem.join(source, name), name=name,
                                             wanted=list(_PARQUET_RATING_COLUMNS), progress=progress)))
    columns = dict(chunk.columns)
    user, rank, stamp = (to_integers(columns[c], c) for c in ("user_id", "time_rank", "timestamp"))
    ranked = np.isin(user[0], np.unique(user[0][~stamp[2]]))
    # Rank -1 is of a rating whose place is not known; it comes first.
    columns["timestamp"] = pa.array(np.where(ranked, rank[0], stamp[0]), mask=ranked & ~rank[2])
    del columns["time_rank"]
    return dataclasses.replace(chunk, columns=columns)


def _movies(source: str, features: str) -> Chunk:
    """Returns movies.dat as one chunk whose columns are those of the schema."""
    chunk = Chunk.concat(list(_dat(source, "movies.dat", _MOVIE_COLUMNS)))
    columns = {name: column.to_pylist() for name, column in chunk.columns.items()}
    years = [m.group(1) if (m := _YEAR.search(t)) else None for t in columns["title"]]
    frame = pd.DataFrame({"title": columns["title"], "genres": columns["genres"], "year": years},
                         index=pd.Index(columns["movie_id"], dtype=object), dtype=object)
    if features == "full":
        frame = _with_extra(frame, source)
    frame["release_year"] = frame["year"]
    types = {name: pa.string() for name in frame.columns}
    if features == "full":
        types |= {name: pa.list_(pa.string()) for name in ("genres", "director", "actors", "writer")}
    return dataclasses.replace(chunk, columns={
        "movie_id": chunk.columns["movie_id"],
        **{name: pa.array(frame[name].to_list(), types[name]) for name in frame.columns}})


def _with_extra(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Adds certificate, people and plot; genres and year of a film without a row there stay those of movies.dat."""
    name = "movies_extra.parquet"
    chunks = parquet_chunks(filesystem.join(source, name), name=name, wanted=list(_EXTRA_COLUMNS))
    extra = pa.concat_tables([pa.table(c.columns) for c in chunks]).to_pandas()
    extra.index = extra.pop("movie_id").astype(str).astype(object)
    extra = extra[~extra.index.duplicated(keep="last")].astype(object)
    extra = extra.where(extra.notna() & (extra != "N/A"), None).reindex(frame.index)
    years = extra["year"].where(extra["year"].astype("str").str.fullmatch(r"\d{4}").fillna(False), None)
    frame["year"] = years.where(years.notna(), frame["year"])
    # The richer genres replace the 18 of movies.dat, whose vocabulary differs ("Children's", "Family").
    genres = [_split(v) if isinstance(v, str) else None for v in extra["genre"]]
    frame["genres"] = [g or v.split("|") for g, v in zip(genres, frame["genres"], strict=True)]
    frame["certificate"] = extra["rate"]
    for column in ("director", "actors", "writer"):
        frame[column] = [_split(v) if isinstance(v, str) else None for v in extra[column]]
    frame["plot"] = extra["plot"]
    return frame.where(frame.notna(), None)


def _split(text: str) -> list[str]:
    """Returns the distinct names of a list such as `A B (screenplay), C D`, in order, without what is bracketed."""
    while (bare := re.sub(r"\([^()]*\)", "", text)) != text:
        text = bare
    names = (" ".join(part.split()) for part in text.split(","))
    return list(dict.fromkeys(n for n in names if n and n != "N/A"))


def _doubles(movies: Chunk, ratings: Chunk) -> Chunk:
    """Returns rows for the doubles that have ratings but no row, with the features of the same film."""
    listed = {m: i for i, m in enumerate(movies.columns["movie_id"].to_pylist())}
    rated = set(to_integers(ratings.columns["movie_id"].unique(), "movie_id")[0].tolist())
    pairs = [(double, listed[str(film)]) for double, film in _SAME_FILM.items()
             if double in rated and str(double) not in listed and str(film) in listed]
    rows = pa.table(movies.columns).take(pa.array([i for _, i in pairs], pa.int64()))
    rows = rows.set_column(0, "movie_id", pa.array([str(double) for double, _ in pairs], pa.string()))
    return Chunk.from_table(rows, file=movies.file, first_row=movies.read)
