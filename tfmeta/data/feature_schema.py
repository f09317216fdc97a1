"""One raw feature as a user of the product declares it."""

import dataclasses
from typing import Literal

import numpy as np

from tfmeta.config import require

_DTYPES = {"categorical": "string", "multi_categorical": "string", "numeric": "float32", "text": "string",
           "dense_vector": "float32"}
_LENGTHS = {"multi_categorical": 8, "text": 64}
_SEPARATORS = {"multi_categorical": "|", "dense_vector": " "}
_TEXT_BUCKETS = 4096


@dataclasses.dataclass(frozen=True)
class FeatureSchema:
    """Where a feature comes from and of what kind it is; `Feature` adds what is fitted on training rows.

    Values left out are filled in by kind when the object is made, so that reading them needs no rule.

    Attributes:
      name: column name in `RawData` and part of the names of the signature inputs.
      kind: see `tfmeta.data.feature.Feature`.
      column: column in the source files; the default is `name`.
      dtype: `string` (the default) or `int64` for a categorical, else settled by the kind.
      separator: splits a string into the values of a multi_categorical (default `|`) or the numbers of a
        dense_vector (default a space; enclosing square brackets are dropped); unused where the source holds lists.
      length: most values of a multi_categorical (8) or tokens of a text (64) that are kept; exact length of a
        dense_vector (required); none for other kinds.
      hash_buckets: shared buckets for unknown values (1), token buckets of a text (4096).

    Raises:
      ConfigError: if a value is out of range or does not go with the kind.
    """

    name: str
    kind: Literal["categorical", "multi_categorical", "numeric", "text", "dense_vector"]
    column: str | None = None
    dtype: Literal["string", "int64", "float32"] | None = None
    separator: str | None = None
    length: int | None = None
    hash_buckets: int | None = None

    def __post_init__(self):
        require(bool(self.name) and self.name.isidentifier(), "name",
                "letters, digits and underscores, because it names a signature input", self.name)
        require(self.kind in _DTYPES, f"{self.name}.kind", f"one of {', '.join(_DTYPES)}", self.kind)
        allowed = ("string", "int64") if self.kind == "categorical" else (_DTYPES[self.kind],)
        require(self.dtype is None or self.dtype in allowed, f"{self.name}.dtype",
                f"{' or '.join(allowed)} for kind {self.kind}", self.dtype)
        if self.kind not in _SEPARATORS:
            require(self.separator is None, f"{self.name}.separator", f"no value for kind {self.kind}",
                    self.separator)
        require(self.separator != "", f"{self.name}.separator", "at least one character", self.separator)
        if self.kind == "dense_vector":
            require(self.length is not None, f"{self.name}.length", "the number of dimensions", self.length)
        if self.kind in ("categorical", "numeric"):
            require(self.length is None, f"{self.name}.length", f"no value for kind {self.kind}", self.length)
        require(self.length is None or 1 <= self.length <= 65536, f"{self.name}.length", "1 to 65536",
                self.length)
        require(self.hash_buckets is None or 1 <= self.hash_buckets <= 2**24, f"{self.name}.hash_buckets",
                "1 to 16777216", self.hash_buckets)
        self._default("column", self.name)
        self._default("dtype", _DTYPES[self.kind])
        self._default("separator", _SEPARATORS.get(self.kind))
        self._default("length", _LENGTHS.get(self.kind))
        self._default("hash_buckets", _TEXT_BUCKETS if self.kind == "text" else 1)

    def _default(self, field: str, value) -> None:
        if getattr(self, field) is None:
            object.__setattr__(self, field, value)

    @property
    def missing(self) -> str | int | float | list | np.ndarray:
        """The value of a missing cell in `RawData`: `""`, -1, NaN, an empty list or a vector `[length]` of NaN."""
        if self.kind == "multi_categorical":
            return []
        if self.kind == "dense_vector":
            return np.full(self.length, np.nan, np.float32)
        return {"string": "", "int64": -1, "float32": float("nan")}[self.dtype]
