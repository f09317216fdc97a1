"""The whole way on synthetic data: prepare, train, evaluate, export, verify, serve, ask."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from tfmeta.data.prepare import prepare
from tfmeta.data.prepare_dataset import default_split
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError
from tfmeta.io import filesystem
from trainer.config import load_config
from trainer.demo_user import DemoUser, ask_server

# In a directory with this file everything is the demo's own and may be made again.
MARKER = "demo.json"
MODEL = "demo"


@dataclasses.dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Attributes:
      config: name of a packaged training configuration.
      users, items, ratings_per_user: of the synthetic data.
      ks: support rows in the evaluation.
      baselines: names; None for all.
    """

    config: str
    users: int
    items: int
    ratings_per_user: float
    ks: tuple[int | str, ...]
    baselines: tuple[str, ...] | None


FULL = DemoSize(config="demo", users=2000, items=800, ratings_per_user=60.0, ks=(0, 1, 3, 5, 10, 20, "all"),
                baselines=None)
QUICK = DemoSize(config="quick", users=500, items=300, ratings_per_user=50.0, ks=(0, 5, "all"),
                 baselines=("item_mean", "damped_bias", "als_fold_in"))


def run_demo(*, out: str, seed: int = 0, size: DemoSize = FULL, progress: bool = True,
             say: Callable[[str], Any] = print) -> dict[str, Any]:
    """Runs the demo.

    Args:
      out: directory for all that is made; one that an earlier demo made is replaced.
      seed: of the data and the training.
      size: how much to do.
      progress: show progress bars on standard error.
      say: called with each piece of text for people.

    Returns:
      JSON-able: paths, the learner's name, headline metrics by state, the verification, the example user's
      lists, seconds by step.

    Raises:
      ConfigError: if `out` holds something else.
      TfmetaError: what any step raises.
    """
    paths = {name: filesystem.join(out, *parts) for name, parts in {
        "prepared": ("prepared",), "run": ("run",), "model_base": ("models", MODEL)}.items()}
    _claim(out, seed=seed)
    steps = _Steps(say, total=6)

    with steps("Synthetic data"):
        raw, truth = generate(SyntheticConfig(users=size.users, items=size.items, seed=seed,
                                              ratings_per_user=size.ratings_per_user))
        prepared = prepare(raw=raw, out=paths["prepared"], split=default_split("synthetic"), dataset="synthetic",
                           oracle=truth.oracle)
        from tfmeta.data.command import describe

        say(describe(prepared.path, prepared.summary))
    with steps("Meta-training"):
        from trainer.loop import train
        from trainer.run_directory import RunDirectory

        result = train(config=load_config(size.config, overrides=[f"seed={seed}"]), data=prepared, run=paths["run"],
                       progress=progress)
        chosen = "" if result.metric is None else (
            f"; weights of epoch {result.best_epoch} ({result.metric} {result.best:.4f} on validation tasks)")
        learner = RunDirectory.open(result.run).config.learner["name"]
        say(f"Learner {learner}: {result.epochs} epochs in {result.seconds:.0f} s{chosen}")
    with steps("Evaluation on users and items that training never saw"):
        evaluation = _evaluate(paths["run"], learner=learner, size=size, progress=progress)
        headline, text = _headline(evaluation.rows, learner=learner)
        say(text)
    with steps("Report"):
        from trainer.report import write_run_report

        paths["report"] = write_run_report(
            paths["run"], title="tfmeta demo", synthetic=True,
            facts={"Users": prepared.summary["users"]["warm"], "Items": prepared.summary["items"]["warm"],
                   "Training interactions": prepared.summary["rows"]["train"], "Learner": learner,
                   "Epochs": result.epochs, "Training seconds": round(result.seconds, 1), "Seed": seed,
                   "Run hash": result.hash[:12]})
        say(paths["report"])
    with steps("Export, verified in a process that cannot import tfmeta"):
        from export.run_export import export_run
        from export.verify import format_table, require_passed, verify

        paths["model"] = export_run(paths["run"], model_base=paths["model_base"], check=False)
        checks = verify(paths["model"])
        say(format_table(checks))
        require_passed(paths["model"], checks)
    with steps("Server: adapt to an unseen user inside one request"):
        user = ask_server(paths["model_base"], model=MODEL, prepared=prepared, truth=truth)
        say(user.text())
    return _finish(out, paths, learner=learner, steps=steps, headline=headline, checks=checks, user=user, seed=seed,
                   say=say, result=result)


def _claim(out: str, *, seed: int) -> None:
    """Empties a directory of an earlier demo and marks it as one; refuses any other that is not empty."""
    if filesystem.exists(out) and (not filesystem.is_dir(out) or filesystem.listdir(out)):
        if not filesystem.exists(filesystem.join(out, MARKER)):
            raise ConfigError(f"'{out}' exists and was not made by 'tfmeta demo'. Choose another directory with --out.")
        filesystem.remove_tree(out)
    filesystem.makedirs(out)
    filesystem.write_text(filesystem.join(out, MARKER), json.dumps({"seed": seed, "complete": False}) + "\n")


class _Steps:
    """Announces steps and keeps their seconds."""

    def __init__(self, say: Callable[[str], Any], *, total: int):
        self._say, self._total = say, total
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, title: str):
        self._say(f"\n[{len(self.seconds) + 1}/{self._total}] {title}")
        begun = time.monotonic()
        yield
        self.seconds[title] = round(time.monotonic() - begun, 2)


def _evaluate(run: str, *, learner: str, size: DemoSize, progress: bool):
    from tfmeta.baselines import baselines_for
    from trainer.evaluation.evaluate_run import count_steps, evaluate_runs

    baselines = list(size.baselines or baselines_for("rating"))
    total = count_steps(4, ks=len(size.ks), runs=1, baselines=len(baselines))
    with tqdm(total=total, file=sys.stderr, unit="step", leave=False, disable=not progress, dynamic_ncols=True) as bar:
        def step(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(1)

        return evaluate_runs([f"{learner}={run}"], ks=size.ks, baselines=baselines, progress=step)


def _headline(rows: list[dict[str, Any]], *, learner: str) -> tuple[dict[str, Any], str]:
    """Returns the main figures by state and metric, and the table with a closing line a state."""
    from trainer.evaluation.table import format_table
    from trainer.report.result_rows import ResultRows
    from trainer.report.words import metric_name, model_name, state_name

    table = ResultRows.of(rows)
    headline: dict[str, Any] = {}
    lines = []
    for state in table.states:
        headline[state] = {}
        for metric in ("auc", "mae"):
            curve = table.curve(state, learner, metric)
            best = table.best(state, "reference", metric)
            attainable = table.last(state, "synthetic_fold_in", metric)
            share = table.recovered(state, learner, metric)
            headline[state][metric] = {
                "floor": table.best(state, "floor", metric)["value"], "baseline": best["value"],
                "baseline_name": best["model"], "unadapted": curve[0]["value"], "adapted": curve[-1]["value"],
                "attainable": attainable["value"], "recovered": share}
            lines.append(f"  {state_name(state):<10} {metric_name(metric):<4} {curve[0]['value']:.3f} -> "
                         f"{curve[-1]['value']:.3f}   best attainable {attainable['value']:.3f}   "
                         + ("" if share is None else f"{share:.0%} of the way   ")
                         + f"strongest baseline {best['value']:.3f} ({model_name(best['model'])})")
    text = (f"{format_table(rows)}\n\nWhat adaptation recovers: from the unadapted score to the best that anyone could "
            "reach\nwith the same support, which the generator of the data knows\n" + "\n".join(lines))
    return headline, text


def _finish(out: str, paths: dict[str, str], *, learner: str, steps: _Steps, headline, checks, user: DemoUser,
            seed: int, result, say: Callable[[str], Any]) -> dict[str, Any]:
    paths["tensorboard"] = filesystem.join(paths["run"], "tensorboard")
    outcome = {"complete": True, "synthetic": True, "seed": seed, "paths": paths, "run_hash": result.hash,
               "learner": learner, "metrics": headline, "verified": {c.name: c.passed for c in checks},
               "user": user.to_dict(), "seconds": {**steps.seconds, "total": round(sum(steps.seconds.values()), 2)}}
    filesystem.write_text(filesystem.join(out, MARKER), json.dumps(outcome, indent=2) + "\n")
    say(f"""
Done in {outcome['seconds']['total']:.0f} s; all of it on synthetic data.
  run          {paths['run']}
  report       {paths['report']}   (open it in a browser)
  TensorBoard  tensorboard --logdir {paths['tensorboard']}
  model        {paths['model']}
  serve it     tfmeta serve --model-base {MODEL}={paths['model_base']}""")
    return outcome
