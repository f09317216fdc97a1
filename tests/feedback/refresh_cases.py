"""A first run on a small stream of items that turn into other ones, and a log of what came afterwards."""

import dataclasses
import datetime
import pathlib

import pandas as pd

from tfmeta.data.label import Label
from tfmeta.data.prepare import prepare
from tfmeta.data.raw_data import RawData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.drifting import generate_drifting
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from trainer.feedback.event_log import EventLog

FIRST = datetime.datetime(2021, 6, 1, tzinfo=datetime.UTC).timestamp()  # The first run has seen what is earlier.


def stream():
    """Returns the generator's data."""
    return generate_drifting(SyntheticConfig(users=320, items=60, ratings_per_user=25, seed=2), turn=90)


def first_run(folder: pathlib.Path, data, *, rows: pd.DataFrame, training: dict,
              label: Label | None = None) -> tuple[str, EventLog, pd.DataFrame]:
    """Prepares and trains on what is earlier than `FIRST`, and logs the rest.

    Args:
      folder: of `data`, `run` and `log`.
      data: of `stream`.
      rows: its interactions, or some of them.
      training: settings.
      label: what the ratings stand for; None takes the data's.

    Returns:
      the run's directory, the log and the events in it.
    """
    from trainer.config import load_config
    from trainer.loop import train

    before = rows[rows["time"] < FIRST]
    raw = RawData.from_frames(before[["user_id", "item_id", "rating", "time"]],
                              schema=dataclasses.replace(data.schema, label=label or data.schema.label),
                              users=data.users[data.users["user_id"].isin(before["user_id"])],
                              items=data.items[data.items["item_id"].isin(before["item_id"])])
    shares = dict.fromkeys(("cold_user_share", "cold_item_share", "validation_user_share", "validation_item_share",
                            "warm_test_user_share"), 0.0)
    prepared = prepare(raw=raw, out=str(folder / "data"), split=SplitConfig(**training["sampler"], **shares))
    train(config=load_config(training), data=prepared, run=str(folder / "run"), progress=False)
    events = rows[rows["time"] >= FIRST].rename(columns={"rating": "label"})
    log = EventLog.create(str(folder / "log"), prepared.feature_spec)
    log.update_table("user", data.users)
    log.update_table("item", data.items)
    log.ingest(events[["user_id", "item_id", "label", "time"]], kind="outcome")
    return str(folder / "run"), log, events
