"""One input feature as every part of the product sees it."""

import dataclasses
from typing import Literal

from tfmeta.config import require

KINDS = ("categorical", "multi_categorical", "numeric", "text", "dense_vector")


@dataclasses.dataclass(frozen=True)
class Feature:
    """A raw feature and how the graph turns it into numbers.

    Raw shapes (leading axes stand for `[B]` or `[B, N]`) and what `FeatureTransform` makes of them:

    | kind | raw | missing | transformed |
    | --- | --- | --- | --- |
    | categorical | `[...]` string or int64 | `""` or -1 | `[...]` int32 |
    | multi_categorical | `[..., length]` string | `""` (also padding) | `[..., length]` int32 |
    | numeric | `[...]` float32 | NaN | `[...]` float32, standardised, missing = 0 |
    | text | `[...]` string | `""` | `[..., length]` int32 token buckets |
    | dense_vector | `[..., length]` float32 | NaN | `[..., length]` float32, standardised, missing = 0 |

    Transformed integers: 0 is missing or padding, 1 to `hash_buckets` are the shared buckets of unknown values,
    then the vocabulary in its order.

    Attributes:
      name: column name; with the prefix `user_`, `support_` or `query_` the name of a signature input.
      kind: one of `KINDS`.
      dtype: raw dtype: `string`, `int64` or `float32`.
      length: values per row of a multi_categorical or dense_vector, tokens kept of a text; None otherwise.
      vocabulary: known values, fitted on training rows only; None for numeric, text and dense_vector.
      hash_buckets: shared buckets for unknown values; for text, the number of token buckets.
      mean, std: standardisation, one number per dimension; empty for integers and strings.
    """

    name: str
    kind: Literal["categorical", "multi_categorical", "numeric", "text", "dense_vector"]
    dtype: Literal["string", "int64", "float32"]
    length: int | None = None
    vocabulary: tuple[str | int, ...] | None = None
    hash_buckets: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self):
        allowed = {"categorical": ("string", "int64"), "numeric": ("float32",), "dense_vector": ("float32",)}
        require(self.dtype in allowed.get(self.kind, ("string",)), f"{self.name}.dtype",
                f"one of {allowed.get(self.kind, ('string',))} for kind {self.kind}", self.dtype)
        require(self.hash_buckets >= 1, f"{self.name}.hash_buckets", "at least 1", self.hash_buckets)
        needs_length = self.kind in ("multi_categorical", "text", "dense_vector")
        require((self.length is not None and self.length >= 1) if needs_length else self.length is None,
                f"{self.name}.length", "a positive number for lists, texts and vectors, else none", self.length)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Trailing raw shape: `()` for a scalar feature, `(length,)` for lists and vectors."""
        return (self.length,) if self.kind in ("multi_categorical", "dense_vector") else ()

    @property
    def missing(self) -> str | int | float:
        """The raw value that stands for missing, and for padding."""
        return {"string": "", "int64": -1, "float32": float("nan")}[self.dtype]

    @property
    def num_ids(self) -> int:
        """Number of transformed integers, 0 (missing) included; 0 for numeric kinds."""
        if self.kind == "text":
            return 1 + self.hash_buckets
        if self.vocabulary is None:
            return 0
        return 1 + self.hash_buckets + len(self.vocabulary)
