"""One unseen user of the demo, and what a server answers for them."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.raw_columns import raw_columns
from tfmeta.data.synthetic.synthetic_truth import SyntheticTruth
from tfmeta.errors import DataError

_TOP = 10
_ITEM, _NUMBER = 26, 6  # Widths of an item and of a number.


@dataclasses.dataclass(frozen=True)
class DemoUser:
    """A user whom training never saw, their ratings and the top list before and after adapting to these.

    Attributes:
      user_id: the user's id, which no request carries.
      features: feature name -> value.
      support: one row a rated item, best first: `item_id, title, genre, rating`.
      before, after: the top of the catalogue, rated items left out: `item_id, title, genre, score, expected`;
        `expected` is the user's true mean rating of the item, which the generator knows.
      milliseconds: of the adapting request, the connection being warm.
    """

    user_id: str
    features: dict[str, Any]
    support: pd.DataFrame
    before: pd.DataFrame
    after: pd.DataFrame
    milliseconds: float

    def text(self) -> str:
        """Returns the lists side by side."""
        features = ", ".join(f"{name} {_short(value)}" for name, value in self.features.items())
        liked, number = self.support.head(_TOP), len(self.support)
        lines = [f"User {self.user_id} ({features}): not in the training data.",
                 f"{number} ratings travel with the request; score and adapt_and_score answer for the whole catalogue.",
                 f"Adapting and scoring took {self.milliseconds:.0f} ms.", "",
                 _row(f"rated ({min(_TOP, number)} best of {number})", "top before adapting", "top after adapting"),
                 _row("-" * (_ITEM + _NUMBER), *2 * ["-" * (_ITEM + 2 * _NUMBER)]),
                 _row(_columns("", "rating"), *2 * [_columns("", "score", "true")])]
        for i in range(_TOP):
            lines.append(_row(_cell(liked, i, "rating"), _cell(self.before, i, "score", "expected"),
                              _cell(self.after, i, "score", "expected")))
        means = [_columns("mean of the true ratings", "", f"{frame['expected'].mean():.2f}")
                 for frame in (self.before, self.after)]
        return "\n".join([*lines, _row("", *means)])

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON-able values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("support", "before", "after"):
            values[name] = values[name].round(4).to_dict("records")
        values["features"] = {k: _short(v) for k, v in self.features.items()}
        return values


def ask_server(model_base: str, *, model: str, prepared: PreparedData, truth: SyntheticTruth) -> DemoUser:
    """Starts the embedded server, asks `score` and `adapt_and_score` for the first user-cold user, and stops it.

    Args:
      model_base: base path of an export with the catalogue inside.
      model: name to serve it under.
      prepared: synthetic data.
      truth: what the generator knows, row by row as in `prepared`.
    """
    from tfmeta.serving.client import Client
    from tfmeta.serving.server import EmbeddedServer

    tasks = prepared.tasks("test").in_state("user_cold")
    if not len(tasks):
        raise DataError("The demo requires a user-cold test task; the synthetic data are too few for one.")
    row, length = int(tasks.user_row[0]), int(tasks.support_length[0])
    support, label = tasks.support_item[0, :length], tasks.support_label[0, :length]
    spec, items = prepared.feature_spec, prepared.items
    candidates = np.setdiff1d(np.flatnonzero(items["partition"].to_numpy() == "warm"), support)
    ids = items["item_id"].to_numpy()
    name = spec.item_id.name
    user = raw_columns(prepared.users.iloc[[row]], spec.user_features)
    inputs = {f"user_{k}": v for k, v in user.items()} | {f"query_{name}": ids[candidates][None, :]}
    adapting = inputs | {f"support_{name}": ids[support][None, :], "support_label": label[None, :].astype(np.float32),
                         "support_length": np.array([length], np.int32)}
    with EmbeddedServer({model: model_base}, grpc_port=0) as server, Client(server.grpc_address) as client:
        before = client.predict(model, inputs, signature="score", accept_status=True)["scores"][0]
        client.predict(model, adapting, signature="adapt_and_score", accept_status=True)
        after, milliseconds = _timed(client, model, adapting)
    expected = truth.expected_label(np.full(len(candidates), row), candidates)

    def top(scores: np.ndarray) -> pd.DataFrame:
        order = np.argsort(-scores, kind="stable")[:_TOP]
        chosen = items.iloc[candidates[order]][["item_id", "title", "genre"]].reset_index(drop=True)
        return chosen.assign(score=scores[order].astype(float), expected=expected[order])

    rated = items.iloc[support][["item_id", "title", "genre"]].assign(rating=label.astype(float))
    features = {f.name: prepared.users[f.name].iloc[row] for f in spec.user_features}
    return DemoUser(user_id=str(prepared.users["user_id"].iloc[row]), features=features,
                    support=rated.sort_values("rating", ascending=False, kind="stable").reset_index(drop=True),
                    before=top(before), after=top(after), milliseconds=milliseconds)


def _timed(client, model: str, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    import time

    begun = time.perf_counter()
    outputs = client.predict(model, inputs, signature="adapt_and_score", accept_status=True)
    return outputs["scores"][0], 1000 * (time.perf_counter() - begun)


def _cell(frame: pd.DataFrame, i: int, *columns: str) -> str:
    if i >= len(frame):
        return ""
    item = frame.iloc[i]
    return _columns(f"{item['title']:<19}{item['genre']}", *(f"{item[c]:.2f}" for c in columns))


def _columns(text: str, *numbers: str) -> str:
    return f"{text:<{_ITEM}.{_ITEM}}" + "".join(f"{n:>{_NUMBER}}" for n in numbers)


def _row(first: str, second: str, third: str) -> str:
    return f"{first:<{_ITEM + _NUMBER}}   {second:<{_ITEM + 2 * _NUMBER}}   {third}".rstrip()


def _short(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "unknown" if np.isnan(value) else f"{value:,.0f}"
    return str(value)
