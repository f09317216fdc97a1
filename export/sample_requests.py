"""Random requests that fit a feature specification: for verification and warm-up."""

import numpy as np

from tfmeta.data.feature import Feature
from tfmeta.serving.input_names import input_name

# Words that no vocabulary is likely to have, for text features.
_WORDS = ("a", "story", "of", "night", "river", "blue", "return", "the", "last", "summer")


Columns = dict[str, np.ndarray]


def random_raw(features: tuple[Feature, ...], shape: tuple[int, ...], rng: np.random.Generator) -> Columns:
    """Returns feature name -> raw values `[*shape, ...]`; one in ten values is missing or unknown where it may be."""
    return {f.name: _values(f, (*shape, *f.raw_shape), rng) for f in features}


def _values(feature: Feature, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if feature.dtype == "float32":
        mean, std = (np.asarray(v or default, np.float32) for v, default in ((feature.mean, (0,)), (feature.std, (1,))))
        if feature.kind == "numeric":
            mean, std = mean[0], std[0]
        return (mean + std * rng.standard_normal(shape)).astype(np.float32)
    if feature.kind == "text":
        flat = [" ".join(rng.choice(_WORDS, size=rng.integers(0, 12))) for _ in range(int(np.prod(shape)))]
        return np.array(flat, object).reshape(shape)
    known = list(feature.vocabulary or ())
    odd = [feature.missing, "never seen" if feature.dtype == "string" else 2**62]
    values = np.array([*known, *odd], object if feature.dtype == "string" else np.int64)
    chance = np.array([0.9 / len(known)] * len(known) + [0.05, 0.05]) if known else np.array([0.5, 0.5])
    return values[rng.choice(len(values), size=shape, p=chance / chance.sum())]


def draw_items(catalogue: Columns, shape: tuple[int, ...], rng: np.random.Generator) -> Columns:
    """Draws rows of a raw catalogue (feature name -> `[I, ...]`): feature name -> `[*shape, ...]`."""
    rows = rng.integers(0, len(next(iter(catalogue.values()))), size=shape)
    return {name: values[rows] for name, values in catalogue.items()}


def as_inputs(*, user: Columns, query: Columns, support: Columns | None = None, label: np.ndarray | None = None,
              length: np.ndarray | None = None) -> Columns:
    """Names raw features as signature inputs; the support only where it is given."""
    sides = {"user": user, "query": query, "support": support or {}}
    inputs = {input_name(side, k): v for side, columns in sides.items() for k, v in columns.items()}
    if support is not None:
        inputs |= {"support_label": label, "support_length": length}
    return inputs
