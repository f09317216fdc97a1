"""Golden requests: raw inputs with the answers of the recommender itself, computed outside the exported graph.

The expected answers take another way than the graph: supports are cleaned with numpy, items are encoded one
request at a time instead of being looked up in the catalogue's table, and every operation runs eagerly.
"""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import tensorflow as tf

from export.sample_requests import as_inputs, draw_items, random_raw
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.data.raw_columns import missing_row, raw_columns
from tfmeta.models.recommender import Recommender

FILE = "golden.npz"
_BATCH, _WIDTH, _QUERY = 3, 6, 5


@dataclasses.dataclass(frozen=True)
class GoldenCase:
    """One request and its answer.

    Attributes:
      name: what the case is about.
      signature: key of the signature.
      inputs: raw arrays by input name.
      outputs: expected arrays by output name.
    """

    name: str
    signature: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


class GoldenRequests:
    """Makes golden cases for an export.

    Args:
      recommender: whose answers are expected.
      items: the raw catalogue.
      item_features: `catalogue` or `request`.
      support_bound: as exported.
      seed: of the random requests.
    """

    def __init__(self, recommender: Recommender, items: pd.DataFrame, *, item_features: str, support_bound: int,
                 seed: int = 0):
        spec = recommender.feature_spec
        self._recommender, self._spec, self._bound = recommender, spec, support_bound
        self._rng = np.random.default_rng([seed, 0x601D])
        self._features = (spec.item_id, *spec.item_features)
        self._catalogue = raw_columns(items, self._features, rename={spec.item_id.name: "item_id"})
        self._by_id = item_features == "catalogue"
        self._users = FeatureTransform(spec.user_features)
        self._items = FeatureTransform(self._features)
        self._row_of = {v: i for i, v in enumerate(self._catalogue[spec.item_id.name].tolist())}

    def cases(self) -> list[GoldenCase]:
        """Returns every case."""
        label, rng = self._spec.label, self._rng
        none = np.zeros(_BATCH, np.int32)
        wide = self._bound + 7
        made = [self._case("score", support=False),
                self._case("support of every length", length=np.array([1, 3, _WIDTH], np.int32)),
                self._case("empty support", length=none),
                self._case("empty support of width 1", length=none, width=1),
                self._case("unknown ids", length=np.array([2, 4, 6], np.int32), unknown=True),
                self._case("length outside the width", length=np.array([_WIDTH + 3, -2, 2**31 - 1], np.int32)),
                self._case("support beyond the bound", width=wide, length=np.array([wide, wide - 1, 2], np.int32)),
                self._case("batch of one", length=np.array([4], np.int32), batch=1)]
        values = self._labels((_BATCH, _WIDTH))
        values[0, 1], values[1, :], values[2, 4] = np.nan, np.inf, -np.inf
        made.append(self._case("non-finite labels", length=np.array([5, 6, 3], np.int32), labels=values))
        values = self._labels((_BATCH, _WIDTH))
        values[0, 0], values[1, 1] = label.maximum + 1000, label.minimum - 1000
        made.append(self._case("labels out of range", length=np.array([6, 6, 6], np.int32), labels=values))
        floats = [f for f in (*self._spec.user_features, *(() if self._by_id else self._features))
                  if f.dtype == "float32"]
        if floats:
            made.append(self._case("non-finite features", length=np.array([3, 4, 5], np.int32), spoil=True))
        rng.shuffle(made)
        return made

    def _labels(self, shape) -> np.ndarray:
        label = self._spec.label
        if label.unit == "click":
            return np.ones(shape, np.float32)
        return self._rng.uniform(label.minimum, label.maximum, shape).astype(np.float32)

    def _case(self, name: str, *, length=None, width: int = _WIDTH, labels=None, unknown: bool = False,
              spoil: bool = False, support: bool = True, batch: int = _BATCH) -> GoldenCase:
        user = random_raw(self._spec.user_features, (batch,), self._rng)
        query = draw_items(self._catalogue, (batch, _QUERY), self._rng)
        rows = draw_items(self._catalogue, (batch, width), self._rng) if support else None
        if unknown:
            for side in (query, rows):
                self._forget(side)
        if spoil:
            self._spoil(user, query, rows)
        labels = self._labels((batch, width)) if labels is None else labels
        outputs = self._answer(user, query, rows, labels, length)
        if self._by_id:
            query, rows = ({self._spec.item_id.name: side[self._spec.item_id.name]} if side else None
                           for side in (query, rows))
        inputs = as_inputs(user=user, query=query, support=rows, label=labels, length=length)
        return GoldenCase(name, "adapt_and_score" if support else "score", inputs, outputs)

    def _forget(self, side: dict[str, np.ndarray]) -> None:
        """Replaces ids by one that nobody knows (column 0) and by the missing one (column 1)."""
        feature = self._spec.item_id
        side[feature.name][:, 0] = "an id that nobody knows" if feature.dtype == "string" else 2**62
        side[feature.name][:, 1] = feature.missing

    def _spoil(self, user, query, rows) -> None:
        """Puts infinities and NaN into row 0's features, and into support padding of row 1."""
        for feature in self._spec.user_features:
            if feature.dtype == "float32":
                user[feature.name][0] = np.inf
        if not self._by_id:
            for feature in self._features:
                if feature.dtype == "float32":
                    query[feature.name][0, 0], rows[feature.name][0, 1] = np.nan, -np.inf
                    rows[feature.name][1, -1] = np.nan

    def _answer(self, user, query, rows, labels, length) -> dict[str, np.ndarray]:
        status = np.zeros(len(labels), np.int32)
        replaced = _non_finite(user, 1) | (False if self._by_id else _non_finite(query, 2).any(1))
        encoded_user = self._recommender.encode_user(self._users(_tensors(user)), tasks=tf.constant(len(labels)))
        encoded_query = self._encode(query)
        if rows is None:
            scores = self._recommender.score(encoded_user, encoded_query).numpy()
            return {"scores": scores, "status": status + 2 * replaced.astype(np.int32)}
        kept, counts = np.full((len(labels), labels.shape[1]), 0, np.int64), np.zeros(len(labels), np.int32)
        for i, row in enumerate(labels):
            inside = min(max(int(length[i]), 0), len(row))
            usable = [j for j in range(inside) if np.isfinite(row[j])][-self._bound:]
            kept[i, :len(usable)], counts[i] = usable, len(usable)
            status[i] += (not np.isfinite(row[:inside]).all()) + 8 * (inside != length[i])
            if not self._by_id:
                replaced[i] |= _non_finite({k: v[i][usable] for k, v in rows.items()}, 1).any()
        rows = {k: np.take_along_axis(v, kept.reshape(*kept.shape, *[1] * (v.ndim - 2)), 1) for k, v in rows.items()}
        clean = np.clip(np.nan_to_num(np.take_along_axis(labels, kept, 1)), self._spec.label.minimum,
                        self._spec.label.maximum).astype(np.float32)
        scores, base = self._recommender.adapt_and_score(
            encoded_user, support_item=self._encode(rows), support_label=tf.constant(clean),
            support_length=tf.constant(counts), query_item=encoded_query)
        return {"scores": scores.numpy(), "base_scores": base.numpy(),
                "status": status + 2 * replaced.astype(np.int32)}

    def _encode(self, raw: dict[str, np.ndarray]) -> tf.Tensor:
        if self._by_id:
            ids = raw[self._spec.item_id.name]
            rows = np.array([self._row_of.get(v, -1) for v in ids.ravel().tolist()], np.int64)
            nothing = missing_row(self._features)
            raw = {k: np.concatenate([v, nothing[k]])[rows].reshape(*ids.shape, *v.shape[1:])
                   for k, v in self._catalogue.items()}
        return self._recommender.encode_item(self._items(_tensors(raw)))


def to_bytes(cases: list[GoldenCase], *, tolerance: float, default_signature: str) -> bytes:
    """Packs cases into an npz file: arrays `<case>/in/<name>` and `<case>/out/<name>`, and the index in JSON.

    Args:
      cases: to pack.
      tolerance: difference allowed, relative to 1 + |score|.
      default_signature: what `serving_default` must answer like.
    """
    arrays, index = {}, []
    for number, case in enumerate(cases):
        index.append({"name": case.name, "signature": case.signature})
        for part, values in (("in", case.inputs), ("out", case.outputs)):
            for name, value in values.items():
                # Fixed-width text instead of objects, so that no reader has to unpickle.
                arrays[f"{number}/{part}/{name}"] = value.astype(str) if value.dtype == object else value
    arrays["index"] = np.array(json.dumps({"tolerance": tolerance, "default": default_signature, "cases": index}))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _tensors(raw: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.convert_to_tensor(value) for name, value in raw.items()}


def _non_finite(raw: dict[str, np.ndarray], rank: int) -> np.ndarray:
    shape = next((v.shape[:rank] for v in raw.values()), ())
    found = np.zeros(shape, bool)
    for value in raw.values():
        if value.dtype.kind == "f":
            bad = ~np.isfinite(value)
            found |= bad.any(axis=tuple(range(rank, bad.ndim)))
    return found
