"""The feedback loop through time: refresh against never refresh against retrain from scratch, quality and cost.

    python -m benchmarks.feedback [--data drift movielens_1m] [--seeds 3] [--work DIR] [--out FILE] [--plot FILE]
    python -m benchmarks.feedback --write docs/feedback_loop.md         the table of the results file

A model is trained on everybody who arrives before the first period. At the end of each period every policy may train,
and all are then tested on the users who arrive in the next one: their last 10 interactions, given all earlier ones.

    never            the first model, for ever
    refresh          what `tfmeta refresh` trains: on from its own last model, on the period, with old tasks mixed in
    scratch          new weights on everything so far, with the first model's configuration
    scratch_window   new weights on the period alone

All policies train on the same prepared directory, so all leave out the users who arrived last in each period until the
next one, as a refresh does that must have somebody to test on. Periods:

    drift            synthetic: in the course of a year all items turn into other ones (`generate_drifting`)
    no_drift         the same without the turn
    movielens_1m     MovieLens-1M (--source): users with timestamps, weeks by arrival

Seconds are those of training alone. What is finished is kept in WORK, so an interrupted run goes on where it was.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.marked_block import replace_block
from tfmeta.data.schema import Schema
from trainer.evaluation.environment import environment
from trainer.evaluation.results_file import read_json, write_json

RESULTS = pathlib.Path(__file__).parent / "results" / "feedback.json"
PLOT = pathlib.Path(__file__).parents[1] / "docs" / "feedback_loop.svg"
POLICIES = ("never", "refresh", "scratch", "scratch_window")
TITLES = {"drift": "synthetic, items turn", "no_drift": "synthetic, no change", "movielens_1m": "MovieLens-1M, weeks"}
METRICS = ("mae", "auc", "ndcg@5")
KS = (0, 5, "all")
_COSTS = ("train_seconds", "train_steps")
_VERDICTS = ("none", "moderate", "shifted")  # 0, 1 and 2 in rows of the metric `drift`.
_DAY = 86_400
_WEEK_OF_2000_11_20 = 974_678_400  # Monday 0:00 UTC.
_FIRST_TIMESTAMP = 800_000_000  # What is below is a rank within one user.


@dataclasses.dataclass(frozen=True)
class Stream:
    """Events in the order of time, cut into periods.

    Attributes:
      name: in the rows.
      schema: columns and features.
      users, items: features.
      events: `user_id, item_id, label, time`.
      bounds: start of the first period, of the second, ..., and end of the last.
      training: configuration of the first model.
      refresh: settings of refreshes.
    """

    name: str
    schema: Schema
    users: pd.DataFrame
    items: pd.DataFrame
    events: pd.DataFrame
    bounds: tuple[int, ...]
    training: dict[str, Any]
    refresh: dict[str, Any]

    def arrivals(self, start: float, end: float) -> np.ndarray:
        """Returns the ids of the users whose first event is in [start, end)."""
        first = self.events.groupby("user_id")["time"].min()
        return first.index[(first >= start) & (first < end)].to_numpy()


def drifting_stream(*, seed: int, turn: float, users: int, periods: int = 5) -> Stream:
    """Generates a year: the first model is of its first 40 %."""
    from tfmeta.data.synthetic.drifting import generate_drifting
    from tfmeta.data.synthetic.generate import START, YEAR
    from tfmeta.data.synthetic.synthetic_config import SyntheticConfig

    data = generate_drifting(SyntheticConfig(users=users, items=200, ratings_per_user=40, seed=seed), turn=turn)
    shares = np.linspace(0.4, 1.0, periods + 1)
    return Stream(
        name="drift" if turn else "no_drift", schema=data.schema, users=data.users, items=data.items,
        events=data.interactions.rename(columns={"rating": "label"})[["user_id", "item_id", "label", "time"]],
        bounds=tuple(int(START + s * YEAR) for s in shares),
        training={"seed": seed, "epochs": 15, "early_stopping": None, "tensorboard": {"enabled": False},
                  "model": {"name": "two_tower", "embedding_dim": 16, "vector_dim": 16, "user_units": [32],
                            "item_units": [32]},
                  "sampler": {"query_size": 10, "min_interactions": 13, "support_size": [1, 40]},
                  "optimizer": {"name": "adam", "learning_rate": 0.01, "schedule": "cosine"}},
        refresh={"seed": seed})


def movielens_stream(source: str, *, seed: int, weeks: int = 5) -> Stream:
    """Reads the users of MovieLens-1M who have timestamps; the first model is of those before 20 November 2000."""
    from tfmeta import config
    from tfmeta.data.readers import read

    raw = read("ml-1m", source, schema=None, progress=False)
    rows = raw.interactions
    events = pd.DataFrame({"user_id": raw.users["user_id"].to_numpy()[rows.user_row],
                           "item_id": raw.items["item_id"].to_numpy()[rows.item_row],
                           "label": rows.label, "time": rows.time})
    first = events.groupby("user_id")["time"].transform("min")
    folder = pathlib.Path(__file__).parent / "configs"
    training = config.load_yaml(str(folder / "ordinal_ridge_ml1m.yaml"))
    return Stream(
        name="movielens_1m", schema=raw.schema, users=raw.users, items=raw.items,
        events=events[first >= _FIRST_TIMESTAMP].sort_values("time", kind="stable", ignore_index=True),
        bounds=tuple(_WEEK_OF_2000_11_20 + 7 * _DAY * week for week in range(weeks + 1)),
        training={**training, "seed": seed, "epochs": 20}, refresh={"seed": seed, "min_test_users": 15})


def prepare_until(stream: Stream, end: int, *, out: str, test: np.ndarray | None = None):
    """Prepares all events before `end`; users of `test` are held out, asked about their last interactions."""
    from tfmeta.data.prepare import prepare
    from tfmeta.data.prepared_data import PreparedData
    from tfmeta.data.raw_data import RawData
    from tfmeta.data.split_config import SplitConfig
    from tfmeta.io import filesystem

    if filesystem.exists(out):
        return PreparedData(out)
    schema = stream.schema
    names = {"user_id": schema.user_id, "item_id": schema.item_id, "label": schema.label.name, "time": schema.timestamp}
    events = stream.events[stream.events["time"] < end]
    users = stream.users[stream.users["user_id"].isin(set(events["user_id"]))]
    raw = RawData.from_frames(events.rename(columns=names), schema=schema, users=users.rename(columns=names),
                              items=stream.items.rename(columns=names))
    shares = dict.fromkeys(("cold_user_share", "cold_item_share", "validation_user_share", "validation_item_share",
                            "warm_test_user_share"), 0.0)
    split = SplitConfig(**shares, max_interactions=None)
    if test is not None:
        files = {}
        for side, ids in (("user", test), ("item", test[:0])):
            files[f"cold_{side}s"] = f"{out}-{side}s.parquet"
            os.makedirs(os.path.dirname(out), exist_ok=True)
            pd.DataFrame({f"{side}_id": pd.Series(ids.tolist(), dtype=object)}).to_parquet(files[f"cold_{side}s"])
        split = dataclasses.replace(split, mode="explicit", last_out=True, **files)
    return prepare(raw=raw, out=out, split=split, dataset=stream.name)


def drift_of(stream: Stream, window: pd.DataFrame, *, previous, feature_spec) -> dict[str, Any]:
    """Returns the drift report's verdict and first reason: a period beside what the last run was trained on."""
    from trainer.feedback.drift import Window, drift_report
    from trainer.feedback.refresh_data import interactions_of

    windows = []
    for users, items, rows in ((previous.users, previous.items, interactions_of(previous)),
                               (stream.users, stream.items, window)):
        windows.append(Window(users=users[users["user_id"].isin(set(rows["user_id"]))],
                              items=items[items["item_id"].isin(set(rows["item_id"]))], interactions=rows))
    report = drift_report(*windows, feature_spec=feature_spec)
    return {"verdict": report.verdict, "reason": report.reasons[0]}


def play(stream: Stream, *, folder: str, bar) -> Iterator[tuple[int, dict[str, dict], pd.DataFrame]]:
    """Yields (period, policy -> cost, values) for each period.

    Cost is that of the training at the end of the period before; the cost of refreshing also has the `drift` report's
    verdict on that period. Values have a row per user and k: `policy, k, user_row` and the metrics.
    """
    from tfmeta.config import parse, to_dict
    from trainer.feedback.refresh_config import RefreshConfig
    from trainer.feedback.refresh_data import describe, refresh_data
    from trainer.feedback.refresh_start import RefreshStart
    from trainer.feedback.refresh_steps import RefreshSteps
    from trainer.run_directory import RunDirectory

    class NewWeights(RefreshStart):
        """The window's tasks alone, from random weights."""

        def initialise(self, recommender) -> None:
            """Leaves them."""

        def describe(self) -> dict[str, Any]:
            return {"since": self.since, "window_only": True}

    config = parse(RefreshConfig, {**stream.refresh, "replay_users": None})
    steps = RefreshSteps(f"{folder}/steps")
    inputs = {"training": stream.training, "refresh": to_dict(config), "bounds": stream.bounds,
              "events": int(pd.util.hash_pandas_object(stream.events).sum() % 2**53)}
    prepared = prepare_until(stream, stream.bounds[0], out=f"{folder}/data0")

    def trained(name: str, config, data, start=None) -> dict:
        from trainer.loop import train

        bar.set_description(f"{stream.name} {name}")
        result = train(config=config, data=data, run=f"{folder}/{name}", resume=True, progress=False, start=start)
        return {"train_seconds": result.seconds, "train_steps": result.steps}

    from trainer.config import load_config

    training = load_config(stream.training)
    first = steps.do("first", inputs, lambda _: trained("first", training, prepared))
    runs = dict.fromkeys(POLICIES, "first")
    costs = {policy: first for policy in POLICIES}
    for period in range(1, len(stream.bounds)):
        start, end = stream.bounds[period - 1:period + 1]
        if period > 1:
            since = stream.bounds[period - 2]
            last = RunDirectory.open(f"{folder}/{runs['refresh']}")
            out = f"{folder}/data{period - 1}"
            window = stream.events[(stream.events["time"] >= since) & (stream.events["time"] < start)]

            def make(_, window=window, prepared=prepared, last=last, out=out, since=since) -> dict:
                return refresh_data(window, previous=prepared, feature_spec=last.feature_spec, config=config,
                                    since=since, out=out, users=stream.users[stream.users["user_id"].isin(
                                        set(window["user_id"]))]).counts()

            steps.do(f"data{period - 1}", inputs, make)
            from tfmeta.data.prepared_data import PreparedData

            drift = steps.do(f"drift{period - 1}", inputs, lambda _, w=window, p=prepared, s=last.feature_spec:
                             drift_of(stream, w, previous=p, feature_spec=s))
            data = describe(PreparedData(out), feature_spec=last.feature_spec, since=since)
            scratch = dataclasses.replace(training, distribution="none")
            begin = RefreshStart(last, since, config.replay_share, config.learning_rate_factor)
            plans = {"refresh": (begin.train_config(epochs=config.epochs, seed=config.seed), begin),
                     "scratch": (scratch, None), "scratch_window": (scratch, NewWeights(last, since, 0.0))}
            for policy, (settings, begin) in plans.items():
                name = f"{policy}{period - 1}"
                costs[policy] = steps.do(
                    name, inputs, lambda _, n=name, s=settings, b=begin, d=data.prepared: trained(n, s, d, b))
                runs[policy] = name
            costs["never"] = {"train_seconds": 0.0, "train_steps": 0}
            costs["refresh"] = {**costs["refresh"], "drift": drift}
            prepared = data.prepared
        values = f"{folder}/values{period}.parquet"

        def test(_, period=period, start=start, end=end, values=values) -> dict:
            bar.set_description(f"{stream.name} test {period}")
            tasks = prepare_until(stream, end, out=f"{folder}/test{period}", test=stream.arrivals(start, end))
            measure(tasks, {p: f"{folder}/{r}" for p, r in runs.items()}).to_parquet(values)
            return {}

        steps.do(f"test{period}", inputs, test)
        bar.update()
        yield period, dict(costs), pd.read_parquet(values)


def measure(tasks, runs: dict[str, str]) -> pd.DataFrame:
    """Returns a row per policy, user and k with the metrics."""
    from tfmeta.data.feature_tables import FeatureTables
    from trainer.evaluation.evaluate import evaluate
    from trainer.evaluation.recommender_scorer import RecommenderScorer
    from trainer.run_directory import RunDirectory

    frames = []
    for path in dict.fromkeys(runs.values()):
        run = RunDirectory.open(path)
        scorer = RecommenderScorer(run.recommender(), name="model", tables=FeatureTables.from_prepared(
            tasks, feature_spec=run.feature_spec))
        found = evaluate([scorer], tasks.tasks("test"), label=run.feature_spec.label, ks=KS).per_user()
        found = found[found["model"] == "model"]
        frames += [found.assign(policy=policy) for policy, own in runs.items() if own == path]
    return pd.concat(frames, ignore_index=True)[["policy", "k", "user_row", *METRICS]]


def rows_of(name: str, seed: int | str, period: int | str, costs: dict[str, dict], values: pd.DataFrame) -> list[dict]:
    """Returns flat rows: each policy's metrics and costs, by how much it is better than never, and refresh than all."""
    from tfmeta.metrics import lower_is_better
    from tfmeta.metrics.significance import bootstrap_interval, wilcoxon

    rows = []
    key = ["period", "user_row"] if "period" in values else ["user_row"]
    key = ["seed", *key] if "seed" in values else key
    for policy in POLICIES:
        head = {"data": name, "state": "user_cold", "model": policy, "role": "learner", "seed": seed, "period": period}
        empty = {"k": None, "low": None, "high": None, "p_value": None, "users": None}
        rows += [{**head, **empty, "metric": metric, "value": costs[policy][metric]} for metric in _COSTS]
        if drift := costs[policy].get("drift"):
            rows.append({**head, **empty, "metric": "drift", "value": _VERDICTS.index(drift["verdict"]),
                         "reason": drift["reason"]})
        for k in map(str, KS):
            found = {p: values[(values["policy"] == p) & (values["k"] == k)].set_index(key).sort_index()
                     for p in POLICIES}
            others = (POLICIES if policy == "refresh" else ("never",)) if k == "all" else ()
            for metric in METRICS:
                sign = -1 if lower_is_better(metric) else 1
                columns = {metric: found[policy][metric].to_numpy()}
                columns |= {f"better_than_{other}_{metric}": sign * (found[policy][metric]
                                                                     - found[other][metric]).to_numpy()
                            for other in others if other != policy}
                for label, column in columns.items():
                    known = column[~np.isnan(column)]
                    if not len(known):
                        continue
                    (low,), (high,) = bootstrap_interval(column[:, None], seed=0)
                    rows.append({**head, "k": k if k == "all" else int(k), "metric": label,
                                 "value": float(known.mean()), "low": float(low), "high": float(high),
                                 "p_value": float(wilcoxon(column)) if label != metric else None, "users": len(known)})
    return rows


def all_rows(name: str, played: dict[int, list[tuple[int, dict, pd.DataFrame]]]) -> list[dict]:
    """Returns the rows of every seed and period, and those over all of them: periods in which policies differ."""
    rows = [row for seed, periods in played.items() for period, costs, values in periods
            for row in rows_of(name, seed, period, costs, values)]
    later = [(seed, *found) for seed, periods in played.items() for found in periods if found[0] > 1]
    if later:
        values = pd.concat([values.assign(seed=seed, period=period) for seed, period, _, values in later])
        if name == "movielens_1m":
            # The same users with every seed: a user counts once, by the mean over seeds.
            values = values.groupby(["policy", "k", "period", "user_row"], as_index=False)[list(METRICS)].mean()
        costs = {policy: {cost: float(np.mean([found[policy][cost] for _, _, found, _ in later]))
                          for cost in _COSTS} for policy in POLICIES}
        rows += rows_of(name, "mean", "all", costs, values)
    return rows


def table(results: dict[str, Any]) -> str:
    """Returns Markdown: a line per stream and policy, over all periods in which policies differ and all seeds.

    The interval is that of the difference to `never`, in MAE, paired by user.
    """
    rows = results["rows"]
    found = {(r["data"], r["model"], r["metric"]): r for r in rows if r["seed"] == "mean" and r["k"] in (None, "all")}
    unadapted = {(r["data"], r["model"]): r["value"] for r in rows
                 if r["seed"] == "mean" and r["k"] == 0 and r["metric"] == "mae"}
    columns = ("stream (tested users)", "policy", "MAE", "better than never", "AUC", "NDCG@5", "MAE unadapted", "steps",
               "seconds")
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    for name, title in TITLES.items():
        for policy in POLICIES:
            if (name, policy, "mae") not in found:
                continue
            of = {metric: found.get((name, policy, metric)) for metric in (*METRICS, *_COSTS, "better_than_never_mae")}
            better = of["better_than_never_mae"]
            first = f"{title} ({of['mae']['users']:,})" if policy == POLICIES[0] else ""
            difference = f"{better['value']:+.4f} ({better['low']:+.4f} to {better['high']:+.4f})" if better else ""
            cells = [first, policy.replace("_", " "), f"{of['mae']['value']:.4f}", difference,
                     f"{of['auc']['value']:.4f}", f"{of['ndcg@5']['value']:.4f}", f"{unadapted[name, policy]:.4f}",
                     f"{of['train_steps']['value']:,.0f}", f"{of['train_seconds']['value']:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    head = results["environment"]
    seeds = {name: len({r["seed"] for r in rows if r["data"] == name} - {"mean"}) for name in TITLES}
    counts = ", ".join(f"{TITLES[name]} {count}" for name, count in seeds.items() if count)
    return "\n".join([*lines, "", f"Steps and seconds of one period's training, on average. Seeds: {counts}. "
                      f"{head['processor']}, {head['threads']} threads, commit `{head['commit'][:12]}`, "
                      f"{head['date'][:10]}: `{head['command']}`."])


def draw(rows: list[dict], path: str) -> None:
    """Draws the MAE of every policy over the periods, a panel a stream."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "feedback"
    names = [n for n in TITLES if any(r["data"] == n for r in rows)]
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for policy in POLICIES:
            own = [r for r in rows if r["data"] == name and r["model"] == policy and r["metric"] == "mae"
                   and r["k"] == "all" and r["period"] != "all"]
            periods = sorted({r["period"] for r in own})
            axis.plot(periods, [np.mean([r["value"] for r in own if r["period"] == p]) for p in periods], marker="o",
                      label=policy.replace("_", " "))
        axis.set_title(TITLES[name])
        axis.set_xlabel("period of the tested users' arrival")
        axis.set_xticks(periods)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("MAE after adaptation")
    axes[0].legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=("drift", "no_drift", "movielens_1m"),
                        default=("drift", "no_drift"))
    parser.add_argument("--source", help="directory with MovieLens-1M")
    parser.add_argument("--seeds", type=int, default=3, help="of data and training (MovieLens-1M: of training)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--users", type=int, default=3000, help="synthetic users")
    parser.add_argument("--turn", type=float, default=90.0, help="degrees that synthetic items turn in a year")
    parser.add_argument("--work", default="runs/feedback", help="where data and runs lie")
    parser.add_argument("--out", default=str(RESULTS), help="results file")
    parser.add_argument("--plot", default=str(PLOT), help="picture (SVG)")
    parser.add_argument("--write", metavar="FILE", help="run nothing; put the table between a document's markers")
    args = parser.parse_args()
    if args.write:
        document = pathlib.Path(args.write)
        document.write_text(replace_block(document.read_text("utf-8"), table(read_json(args.out))), "utf-8")
        return 0
    if "movielens_1m" in args.data and not args.source:
        print("feedback: error: movielens_1m requires --source, a directory with MovieLens-1M", file=sys.stderr)
        return 2
    head = environment()
    known = read_json(args.out)["rows"] if pathlib.Path(args.out).exists() else []
    with tqdm(total=len(args.data) * args.seeds * 5, unit="period", file=sys.stderr, dynamic_ncols=True) as bar:
        for name in args.data:
            played: dict[int, list] = {}
            for seed in range(args.first_seed, args.first_seed + args.seeds):
                if name == "movielens_1m":
                    stream = movielens_stream(args.source, seed=seed)
                else:
                    stream = drifting_stream(seed=seed, turn=args.turn if name == "drift" else 0.0, users=args.users)
                for found in play(stream, folder=f"{args.work}/{name}-{args.users}-{seed}", bar=bar):
                    played.setdefault(seed, []).append(found)
                # After every seed, so that an interrupted run leaves what it has.
                known = [r for r in known if r["data"] != name] + all_rows(name, played)
                write_json(args.out, environment=head, rows=known)
    draw(known, args.plot)
    print(json.dumps({"results": args.out, **{
        f"{r['data']} {r['model']} {r['metric']}": round(r["value"], 4) for r in known
        if r["seed"] == "mean" and ((r["k"] == "all" and r["metric"] in METRICS) or r["k"] is None)}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
