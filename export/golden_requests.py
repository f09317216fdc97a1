"""Random and unusual requests, and what of them counts, worked out without the exported graph.

Supports are cleaned with numpy, items are encoded one request at a time instead of being looked up in the catalogue's
table, and every operation runs eagerly.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from export.sample_requests import Columns, as_inputs, draw_items, random_raw
from export.signatures import status
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.data.raw_columns import missing_row, raw_columns
from tfmeta.models.recommender import Recommender

_BATCH, _WIDTH, _QUERY = 3, 6, 5
UNKNOWN = {"string": "an id that nobody knows", "int64": 2**62}


@dataclasses.dataclass
class Request:
    """One request in raw values, with all item features whether or not the model's requests carry them.

    Attributes:
      user: feature name -> `[B, ...]`.
      query: feature name -> `[B, Q, ...]`.
      support: feature name -> `[B, S, ...]`.
      label: `[B, S]` float32, in the label's own unit.
      length: `[B]` int32.
    """

    user: Columns
    query: Columns
    support: Columns
    label: np.ndarray
    length: np.ndarray

    @property
    def batch(self) -> int:
        return len(self.length)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What of a request counts, and how the model sees it.

    Attributes:
      user: `[B, Du]`.
      query: `[B, Q, Di]`.
      support: `[B, S, Di]`, the usable rows first.
      label: `[B, S]` float32 of these rows, clipped into the label's range.
      length: `[B]` int32, usable rows.
      kept: for each task the original positions of its usable rows.
      bits: status bit and part of the request that raises it -> bool `[B]`.
    """

    user: tf.Tensor
    query: tf.Tensor
    support: tf.Tensor
    label: np.ndarray
    length: np.ndarray
    kept: list[list[int]]
    bits: dict[tuple[int, str], np.ndarray]

    def status(self, *parts: str) -> np.ndarray:
        """Returns the status `[B]` int32 of a signature that reads these parts: `user`, `query`, `support`."""
        total = np.zeros(len(self.length), np.int32)
        for (bit, part), raised in self.bits.items():
            if part in parts:
                total |= bit * raised.astype(np.int32)
        return total

    @property
    def adaptation(self) -> dict:
        """The arguments of `Recommender.adapt` after the user."""
        return {"support_item": self.support, "support_label": tf.constant(self.label),
                "support_length": tf.constant(self.length)}


class GoldenRequests:
    """Makes requests for golden cases, and what is needed to answer them.

    Args:
      recommender: whose answers are expected.
      items: the raw catalogue.
      item_features: `catalogue` or `request`.
      support_bound: as exported.
      fingerprint: as exported.
      documents: as exported, see `export.signatures.metadata`.
      top_k, diversity: of the signatures of retrieval, as exported.
      seed: of the random requests.

    Attributes:
      catalogue: raw item columns `[I, ...]`, the id among them.
      rng: generator of everything random.
    """

    def __init__(self, recommender: Recommender, items: pd.DataFrame, *, item_features: str, support_bound: int,
                 fingerprint: str = "", documents: dict[str, str] | None = None, top_k: int = 100,
                 diversity: float = 0.0, seed: int = 0):
        spec = recommender.feature_spec
        self.recommender, self.spec, self.bound = recommender, spec, support_bound
        self.fingerprint, self.documents = fingerprint, documents or {}
        self.top_k, self.diversity = top_k, diversity
        self.rng = np.random.default_rng([seed, 0x601D])
        self._features = (spec.item_id, *spec.item_features)
        self.catalogue = raw_columns(items, self._features, rename={spec.item_id.name: "item_id"})
        self.by_id = item_features == "catalogue"
        self._users = FeatureTransform(spec.user_features)
        self._items = FeatureTransform(self._features)
        self._row_of = {v: i for i, v in enumerate(self.catalogue[spec.item_id.name].tolist())}

    @property
    def request_features(self):
        """The item features that a request carries."""
        return (self.spec.item_id,) if self.by_id else self._features

    def draw(self, *, batch: int = _BATCH, width: int = _WIDTH, query: int = _QUERY, length=None) -> Request:
        """Draws a valid request; `length` (one number a task) is drawn where it is None."""
        length = self.rng.integers(1, width + 1, batch) if length is None else length
        return Request(user=random_raw(self.spec.user_features, (batch,), self.rng),
                       query=draw_items(self.catalogue, (batch, query), self.rng),
                       support=draw_items(self.catalogue, (batch, width), self.rng),
                       label=self.labels((batch, width)), length=np.asarray(length, np.int32))

    def labels(self, shape) -> np.ndarray:
        """Draws valid labels."""
        label = self.spec.label
        if label.unit == "click":
            return np.ones(shape, np.float32)
        return self.rng.uniform(label.minimum, label.maximum, shape).astype(np.float32)

    def unusual(self) -> Iterator[tuple[str, Request]]:
        """Yields (what it is about, request) for all that clients send and a signature with a support must bear."""
        label, wide = self.spec.label, self.bound + 7
        yield "support of every length", self.draw(length=[1, 3, _WIDTH])
        yield "empty support", self.draw(length=[0, 0, 0])
        yield "empty support of width 1", self.draw(width=1, length=[0, 0, 0])
        request = self.draw(length=[2, 4, 6])
        for side in (request.query, request.support):
            self._forget(side)
        yield "unknown ids", request
        yield "length outside the width", self.draw(length=[_WIDTH + 3, -2, 2**31 - 1])
        yield "support beyond the bound", self.draw(width=wide, length=[wide, wide - 1, 2])
        yield "batch of one", self.draw(batch=1, length=[4])
        request = self.draw(length=[5, 6, 3])
        request.label[0, 1], request.label[1, :], request.label[2, 4] = np.nan, np.inf, -np.inf
        yield "non-finite labels", request
        request = self.draw(length=[6, 6, 6])
        request.label[0, 0], request.label[1, 1] = label.maximum + 1000, label.minimum - 1000
        request.label[2, 2], request.label[2, 3] = 1e38, -1e38
        yield "labels out of range", request
        request = self.draw(length=[6, 6, 6])
        for column in request.support.values():
            column[:, 1:4] = column[:, :1]
        yield "duplicate items", request
        if any(f.dtype == "float32" for f in (*self.spec.user_features, *(() if self.by_id else self._features))):
            request = self.draw(length=[3, 4, 5])
            self._spoil(request)
            yield "non-finite features", request

    def _forget(self, side: Columns) -> None:
        """Replaces ids by one that nobody knows (column 0) and by the missing one (column 1)."""
        feature = self.spec.item_id
        side[feature.name][:, 0] = UNKNOWN[feature.dtype]
        side[feature.name][:, 1] = feature.missing

    def _spoil(self, request: Request) -> None:
        """Puts infinities and NaN into row 0's features, and into support padding of row 1."""
        for feature in self.spec.user_features:
            if feature.dtype == "float32":
                request.user[feature.name][0] = np.inf
        if not self.by_id:
            for feature in self._features:
                if feature.dtype == "float32":
                    request.query[feature.name][0, 0] = np.nan
                    request.support[feature.name][0, 1] = -np.inf
                    request.support[feature.name][1, -1] = np.nan

    def inputs(self, request: Request, *parts: str) -> dict[str, np.ndarray]:
        """Returns the signature inputs of the given parts, `user`, `query` and `support` (with labels and lengths)."""
        def side(name):
            columns = getattr(request, name) if name in parts else {}
            kept = {f.name for f in (self.spec.user_features if name == "user" else self.request_features)}
            return {k: v for k, v in columns.items() if k in kept}

        support = {"support": side("support"), "label": request.label, "length": request.length}
        return as_inputs(user=side("user"), query=side("query"), **(support if "support" in parts else {}))

    def encode(self, request: Request) -> Encoded:
        """Cleans a request with numpy and encodes what remains."""
        batch, width = request.label.shape
        kept = []
        dropped, clamped, replaced = (np.zeros(batch, bool) for _ in range(3))
        for i, row in enumerate(request.label):
            inside = min(max(int(request.length[i]), 0), width)
            kept.append([j for j in range(inside) if np.isfinite(row[j])][-self.bound:])
            dropped[i], clamped[i] = not np.isfinite(row[:inside]).all(), inside != request.length[i]
            if not self.by_id:
                replaced[i] = _non_finite({k: v[i][kept[i]] for k, v in request.support.items()}, 1).any()
        order = np.array([rows + [0] * (width - len(rows)) for rows in kept], np.int64).reshape(batch, width)
        support = {k: np.take_along_axis(v, order.reshape(batch, width, *[1] * (v.ndim - 2)), 1)
                   for k, v in request.support.items()}
        info = self.spec.label
        label = np.clip(np.nan_to_num(np.take_along_axis(request.label, order, 1)), info.minimum, info.maximum)
        bits = {(status.LABEL_DROPPED, "support"): dropped, (status.LENGTH_CLAMPED, "support"): clamped,
                (status.FEATURE_REPLACED, "support"): replaced,
                (status.FEATURE_REPLACED, "user"): np.broadcast_to(_non_finite(request.user, 1), [batch])}
        if not self.by_id:
            bits[status.FEATURE_REPLACED, "query"] = _non_finite(request.query, 2).any(axis=1)
        user = self.recommender.encode_user(self._users(_tensors(request.user)), tasks=tf.constant(batch))
        return Encoded(user=user, query=self.encode_items(request.query), support=self.encode_items(support),
                       label=label.astype(np.float32), length=np.array([len(rows) for rows in kept], np.int32),
                       kept=kept, bits=bits)

    def encode_items(self, raw: Columns) -> tf.Tensor:
        """Encodes items from their features: `[..., Di]`; in mode `catalogue` the features follow from the ids."""
        if self.by_id:
            ids = raw[self.spec.item_id.name]
            rows = np.array([self._row_of.get(v, -1) for v in ids.ravel().tolist()], np.int64)
            nothing = missing_row(self._features)
            raw = {k: np.concatenate([v, nothing[k]])[rows].reshape(*ids.shape, *v.shape[1:])
                   for k, v in self.catalogue.items()}
        return self.recommender.encode_item(self._items(_tensors(raw)))


def _tensors(raw: Columns) -> dict[str, tf.Tensor]:
    return {name: tf.convert_to_tensor(value) for name, value in raw.items()}


def _non_finite(raw: Columns, rank: int) -> np.ndarray:
    shape = next((v.shape[:rank] for v in raw.values()), ())
    found = np.zeros(shape, bool)
    for value in raw.values():
        if value.dtype.kind == "f":
            bad = ~np.isfinite(value)
            found |= bad.any(axis=tuple(range(rank, bad.ndim)))
    return found
