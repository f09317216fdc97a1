"""Requests for the exports of this folder."""

import numpy as np

from export.sample_requests import as_inputs, draw_items, random_raw
from tfmeta.data.raw_columns import raw_columns

# Batch sizes, as in a server's batching parameters.
ALLOWED = (8, 16, 32)


def to_bytes(inputs):
    """Strings as a server decodes them."""
    return {k: np.array([v.encode() if isinstance(v, str) else v for v in a.ravel().tolist()], object).reshape(a.shape)
            if a.dtype == object else a for k, a in inputs.items()}


def make_request(exported, *, batch=3, width=6, query=5, length=None, seed=0):
    """A valid `adapt_and_score` request in raw values."""
    rng = np.random.default_rng(seed)
    spec = exported.recommender.feature_spec
    features = (spec.item_id, *(spec.item_features if exported.mode == "request" else ()))
    catalogue = raw_columns(exported.items, features, rename={spec.item_id.name: "item_id"})
    # The catalogue has one item without a year, which as a request value is not finite.
    catalogue = {k: np.nan_to_num(v, nan=1990.0) if v.dtype.kind == "f" else v for k, v in catalogue.items()}
    label = rng.uniform(spec.label.minimum, spec.label.maximum, (batch, width)).astype(np.float32)
    length = rng.integers(1, width + 1, batch).astype(np.int32) if length is None else np.full(batch, length, np.int32)
    return to_bytes(as_inputs(
        user=random_raw(spec.user_features, (batch,), rng), query=draw_items(catalogue, (batch, query), rng),
        support=draw_items(catalogue, (batch, width), rng), label=label, length=length))


def without_support(inputs):
    return {k: v for k, v in inputs.items() if not k.startswith("support_")}


def rows(inputs, index):
    return {k: v[index] for k, v in inputs.items()}


def merge(requests):
    """What request batching does: pad variable widths with each tensor's first element, join, and fill up to the next
    allowed size with the last request's first row."""
    rows = sum(len(next(iter(r.values()))) for r in requests)
    surplus = next(size for size in ALLOWED if size >= rows) - rows
    merged = {}
    for name in requests[0]:
        tensors = [r[name] for r in requests]
        if tensors[0].ndim > 1:
            width = max(t.shape[1] for t in tensors)
            tensors = [np.concatenate([t, np.full((len(t), width - t.shape[1], *t.shape[2:]), t.ravel()[0], t.dtype)],
                                      axis=1) for t in tensors]
        merged[name] = np.concatenate([*tensors, np.repeat(tensors[-1][:1], surplus, axis=0)])
    return merged
