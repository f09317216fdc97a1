"""Synthetic ratings of items that change while they are rated."""

import dataclasses

import numpy as np
import pandas as pd

from tfmeta.data.schema import Schema
from tfmeta.data.synthetic.generate import START, YEAR, draw_choices, draw_items, draw_users, synthetic_schema
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig


@dataclasses.dataclass(frozen=True)
class DriftingData:
    """A year of ratings.

    Attributes:
      schema: columns and features.
      users, items: as `generate` makes them; the content of items is that of the first day.
      interactions: `user_id, item_id, rating, time` (unix seconds) and `expected`, the rating without its noise, oldest
        first.
    """

    schema: Schema
    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame


def generate_drifting(config: SyntheticConfig | None = None, *, turn: float = 90.0) -> DriftingData:
    """Draws a data set whose items turn into other ones in the course of a year.

    Everything is drawn as in `generate`, but an item has two latent vectors and two biases, drawn alike, and at the
    share s of the year it is cos(s turn) times the first plus sin(s turn) times the second: at 90 degrees nothing of
    what was true of an item on the first day is left. Shares of the variance stay what they are all the time. Neither
    users nor the way they arrive changes, and no feature shows the turn.

    Args:
      config: of the generator.
      turn: degrees in a year; 0 is no drift.
    """
    config = config or SyntheticConfig()

    def rng(stream: int) -> np.random.Generator:
        return np.random.default_rng([config.seed, stream])

    users, _, taste, bias, _ = draw_users(config, rng(1))
    items, *first = draw_items(config, rng(2))
    _, *second = draw_items(config, rng(5))
    user_row, item_row, time = draw_choices(config, rng(3))
    angle = np.deg2rad(turn) * (time - START) / YEAR
    vector, item_bias = ((np.cos(angle) * one[item_row].T + np.sin(angle) * other[item_row].T).T
                         for one, other in zip(first, second, strict=True))
    expected = config.rating_mean + item_bias + bias[user_row] + np.einsum("nd,nd->n", taste[user_row], vector)
    latent = expected + rng(4).normal(0.0, config.std("noise"), len(user_row))
    schema = synthetic_schema(config)
    rating = np.clip(np.round(latent) if config.rounded else latent, schema.label.minimum, schema.label.maximum)
    interactions = pd.DataFrame({
        "user_id": users["user_id"].to_numpy()[user_row], "item_id": items["item_id"].to_numpy()[item_row],
        "rating": rating.astype(np.float32), "time": time, "expected": expected})
    interactions = interactions.sort_values("time", kind="stable", ignore_index=True)
    return DriftingData(schema=schema, users=users, items=items, interactions=interactions)
