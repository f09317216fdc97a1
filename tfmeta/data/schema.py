"""What the raw data looks like: files, columns, features."""

import dataclasses
from typing import Literal

from tfmeta import config
from tfmeta.config import require
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.errors import ConfigError

# Columns that RawData and the prepared directory name themselves.
RESERVED = ("user_id", "item_id", "partition")


@dataclasses.dataclass(frozen=True)
class Schema:
    """The declaration of a raw data set, usually a YAML file.

    Example::

        label: {name: stars, unit: rating, minimum: 1, maximum: 5, threshold: 4}
        user_id: user
        item_id: product
        timestamp: time
        interactions: "ratings-*.csv"
        items: products.csv
        item_features:
          - {name: brand, kind: categorical, hash_buckets: 16}
          - {name: tags, kind: multi_categorical, separator: "|", length: 5}
          - {name: price, kind: numeric}
        title: name

    Attributes:
      label: the label column, its unit and its range.
      user_id, item_id: id columns, called so in every file of the data set.
      user_id_dtype, item_id_dtype: raw type of the ids that clients send.
      timestamp: column of the time of an interaction, in seconds, any other order-preserving number or ISO 8601;
        None where the order of the rows is the order in time.
      user_features, item_features: side features; columns of the users and items files, or, without such a
        file, of the interactions files (the last value that is not missing counts, per id).
      title: item column that people read, or None.
      interactions, users, items: a path, a glob or a list of them, relative to the source directory.
      csv: options of delimited text.
      max_bad_share: highest share of bad rows; more of them is an error.

    Raises:
      ConfigError: if a value is out of range or two columns would have one name.
    """

    label: LabelSchema = dataclasses.field(default_factory=LabelSchema)
    user_id: str = "user_id"
    item_id: str = "item_id"
    user_id_dtype: Literal["string", "int64"] = "string"
    item_id_dtype: Literal["string", "int64"] = "string"
    timestamp: str | None = None
    user_features: tuple[FeatureSchema, ...] = ()
    item_features: tuple[FeatureSchema, ...] = ()
    title: str | None = None
    interactions: str | tuple[str, ...] | None = None
    users: str | tuple[str, ...] | None = None
    items: str | tuple[str, ...] | None = None
    csv: CsvOptions = dataclasses.field(default_factory=CsvOptions)
    max_bad_share: float = 0.05

    def __post_init__(self):
        require(0 <= self.max_bad_share <= 1, "max_bad_share", "a share from 0 to 1", self.max_bad_share)
        columns = {"user_id": self.user_id, "item_id": self.item_id}
        if not self.label.implicit:
            columns["label.name"] = self.label.name
        if self.timestamp is not None:
            columns["timestamp"] = self.timestamp
        for key, column in columns.items():
            require(column != "", key, "a column name", column)
            same = [k for k, c in columns.items() if c == column and k != key]
            require(not same, key, f"a column other than that of '{', '.join(same)}'", column)
        for dtype in ("user_id_dtype", "item_id_dtype"):
            require(getattr(self, dtype) in ("string", "int64"), dtype, "string or int64", getattr(self, dtype))
        for side in ("user", "item"):
            names = [f.name for f in getattr(self, f"{side}_features")]
            repeated = sorted({n for n in names if names.count(n) > 1})
            require(not repeated, f"{side}_features", "names that differ", repeated)
            taken = [n for n in names if n in RESERVED]
            require(not taken, f"{side}_features", f"names other than {', '.join(RESERVED)}", taken)
        require(self.title != "" and self.title not in RESERVED, "title",
                f"a column other than {', '.join(RESERVED)}", self.title)
        clash = [f for f in self.item_features if f.name == self.title
                 and (f.dtype != "string" or f.kind == "multi_categorical" or f.column != self.title)]
        if clash:
            raise ConfigError(f"'title' requires a column of its own or a text feature, received '{self.title}', "
                              f"which is a feature of kind {clash[0].kind} from column '{clash[0].column}'.")
        for key in ("interactions", "users", "items"):
            paths = getattr(self, key)
            require(paths is None or (len(paths) > 0 and "" not in ((paths,) if isinstance(paths, str) else paths)),
                    key, "a path, a glob or a list of them", paths)

    @classmethod
    def from_yaml(cls, path: str) -> "Schema":
        """Reads a schema file.

        Raises:
          ConfigError: if the file is absent or malformed, or a key or value in it is wrong.
        """
        values = config.load_yaml(path)
        try:
            return config.parse(cls, values)
        except ConfigError as error:
            raise ConfigError(f"Schema '{path}': {error}") from None

    def files(self, kind: str) -> tuple[str, ...]:
        """Returns the paths or globs of `interactions`, `users` or `items`; empty where there are none."""
        paths = getattr(self, kind)
        if paths is None:
            return ()
        return (paths,) if isinstance(paths, str) else tuple(paths)

    def side(self, side: str) -> tuple[str, str, tuple[FeatureSchema, ...]]:
        """Returns (id column, id dtype, features) of side `user` or `item`."""
        return getattr(self, f"{side}_id"), getattr(self, f"{side}_id_dtype"), getattr(self, f"{side}_features")
