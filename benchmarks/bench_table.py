"""Prints the speed figures of `benchmarks/results` beside their goals, one line each.

    python -m benchmarks.bench_table [--results DIR] [--markdown]
    python -m benchmarks.bench_table --write docs/performance.md        put it between the markers

`ours` is tfmeta's figure, `ratio` ours against the best peer of the same run (above 1: ours is better), `limit` what
the plain algorithm's matrix products alone would reach on the same machine. Files that are missing are named.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.closed_form import AMORTISED
from benchmarks.marked_block import replace_block

RESULTS = pathlib.Path(__file__).parent / "results"
HEAD = ("what", "ours", "best peer", "ratio", "limit", "goal", "met")
_OURS = ("tfmeta", "tfmeta_dense_adam")
# (inner steps, tasks) -> least ratio to JAX.
_JAX_GOALS = {(5, 32): 2.0, (1, 32): 1.2, (5, 256): 5.0, (1, 256): 2.5}


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table; None is shown as a dash."""

    what: str
    ours: str
    peer: str | None = None
    ratio: str | None = None
    limit: str | None = None
    goal: str | None = None
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        met = {None: "-", True: "yes", False: "NO"}[self.met]
        texts = (self.what, self.ours, self.peer, self.ratio, self.limit, self.goal)
        return (*(text if text is not None else "-" for text in texts), met)


Rows = list[dict[str, Any]]


def train_speed(rows: Rows) -> Iterator[Line]:
    """W1 by setting: tasks a second."""
    settings = {json.dumps(r["setting"], sort_keys=True): r["setting"] for r in rows}
    for where in settings.values():
        speed = {r["system"]: r["value"] for r in rows if r["setting"] == where and r["metric"] == "tasks_per_s"}
        share = next(r["value"] for r in rows
                     if r["setting"] == where and r["metric"] == "share_of_matrix_product_bound")
        peers = {name: value for name, value in speed.items() if name not in (*_OURS, "matrix_products")}
        best = max(peers, key=peers.get, default=None)
        goal = _JAX_GOALS.get((where["inner_steps"], where["tasks"]))
        yield Line(
            what=f"W1 tasks/s: {where['inner_steps']} steps, {where['tasks']} tasks, order {where['order']}",
            ours=f"{speed['tfmeta']:,.0f}", peer=f"{best} {peers[best]:,.0f}" if best else None,
            ratio=f"{speed['tfmeta'] / peers[best]:.2f}" if best else None,
            limit=f"{speed['matrix_products']:,.0f} ({share:.0%})", goal=f">= {goal} x JAX" if goal else None,
            met=speed["tfmeta"] >= goal * speed["jax"] if goal and "jax" in speed else None)


def at_most(what: str, value: float, goal: float | None, unit: str = "") -> Line:
    """A line whose figure should not exceed its goal."""
    return Line(what=what, ours=f"{value:.3g}{unit}", goal=None if goal is None else f"<= {goal}{unit}",
                met=None if goal is None else value <= goal)


def embedding_scale(rows: Rows) -> Iterator[Line]:
    """Time of an outer step by rows of the embedding table."""
    for row in rows:
        count = row["setting"]["embedding_rows"]
        if row["metric"] == "ratio_to_fewest_rows" and row["system"] == "tfmeta" and count > 1e6:
            yield at_most(f"outer step, {count:,} embedding rows / fewest", row["value"], 1.2, " x")


def input_speed(rows: Rows) -> Iterator[Line]:
    """The task pipeline and data preparation."""
    least = {}
    for row in rows:
        if row["metric"] == "pipeline_over_training":
            least[row["system"]] = min(row["value"], least.get(row["system"], row["value"]))
    for system, value in least.items():
        yield Line(what=f"tasks delivered / tasks trained, {system}, least", ours=f"{value:.3g} x", goal=">= 3 x",
                   met=value >= 3)
    for row in rows:
        if row["metric"] == "rss_growth":
            yield at_most(f"memory growth over {row['setting']['epochs']} epochs, {row['system']}", row["value"], 0.05)
        elif row["metric"] == "prepare_s":
            yield at_most("prepare MovieLens-1M from raw files", row["value"], 10, " s")


def serving_cost(rows: Rows) -> Iterator[Line]:
    """What adapting costs at serving time."""
    for row in rows:
        if row["metric"] == "adapt_over_score":
            where = row["setting"]
            yield at_most(f"adapt_and_score / score, {where['model']}, {where['users']} users", row["value"], 4, " x")


def closed_form(rows: Rows) -> Iterator[Line]:
    """Adaptation in one pass beside the same arithmetic in NumPy, and beside scoring; the fastest tenth.

    Amortised learners also stand beside the ridge solve of the same support sets, without a goal.
    """
    for row in rows:
        where = row["setting"]
        what = f"{where['learner']}, {where['users']} users, {where['support']} support rows"
        if row["metric"] == "adapt_best_ms" and row["system"] != "tfmeta":
            ours = next(r["value"] for r in rows if r["system"] == "tfmeta" and r["setting"] == where
                        and r["metric"] == "adapt_best_ms")
            same = where["learner"] not in AMORTISED or row["system"] == "numpy_same"
            yield Line(what=f"adapt, {what}{'' if same else ', beside the ridge solve'}", ours=f"{ours:.3g} ms",
                       peer=f"{row['system']} {row['value']:.3g} ms", ratio=f"{row['value'] / ours:.2f}",
                       goal="<= 1.5 x NumPy" if same else None, met=ours <= 1.5 * row["value"] if same else None)
        elif row["metric"] == "adapt_over_score_best":
            source = "items by id" if where["item_features"] == "catalogue" else "items with features"
            yield at_most(f"adapt_and_score / score, {what}, {source}", row["value"],
                          1.5 if where["learner"] == "ridge" else None, " x")


def serving(rows: Rows) -> Iterator[Line]:
    """The embedded server beside the same signature called in its process."""
    def find(metric: str, **where) -> dict[str, Any] | None:
        return next((r for r in rows if r["metric"] == metric and {**r["setting"], "system": r["system"]}.items()
                     >= where.items()), None)

    for protocol, name in (("grpc", "gRPC"), ("rest", "REST")):
        five = {"signature": "adapt_and_score", "inner_steps": 5, "system": f"embedded_{protocol}"}
        above = find("p50_above_in_process_ms", **five, concurrency=1, batching=False)
        if above is not None:
            yield at_most(f"adapt_and_score over {name}, p50 above in-process", above["value"], 1.0, " ms")
        rates = {on: find("per_s", **five, concurrency=32, batching=on) for on in (False, True)}
        for on, row in rates.items():
            if row is not None:
                ratio = row["ratio_to_ours"]
                yield Line(what=f"adapt_and_score over {name}, 32 clients{', batching' if on else ''}: requests/s",
                           ours=f"{row['value']:,.0f}", limit=f"in-process x {ratio:.2f}",
                           goal=">= 0.6 of in-process", met=ratio >= 0.6)
        if all(rates.values()):
            gain = rates[True]["ratio_to_ours"] / rates[False]["ratio_to_ours"]
            yield Line(what=f"adapt_and_score over {name}, 32 clients: batching on / off", ours=f"{gain:.2f} x",
                       goal="> 1 x", met=gain > 1)


def startup(rows: Rows) -> Iterator[Line]:
    """Start-up times."""
    known = {"import_s": ("import tfmeta", 0.2), "process_import_s": ("a process that imports tfmeta", None),
             "help_s": ("tfmeta --help", 0.5), "first_step_s": ("first training step", 10),
             "process_first_step_s": ("process to the end of its first training step", None)}
    for row in rows:
        what, goal = known[row["metric"]]
        yield at_most(what, row["value"], goal, " s")


def scaling(rows: Rows) -> Iterator[Line]:
    """Growth of the time per task."""
    known = {"tasks_512_over_32": ("time per task, 512 tasks / 32", 1.1, " x"),
             "support_affine_error": ("support rows: distance from a line", 0.15, ""),
             "inner_steps_affine_error": ("inner steps: distance from a line", 0.15, "")}
    for row in rows:
        if row["metric"] in known:
            what, goal, unit = known[row["metric"]]
            yield at_most(what, row["value"], goal, unit)


def gpu(rows: Rows) -> Iterator[Line]:
    """The training step on a GPU."""
    for row in rows:
        if row["metric"] == "tasks_per_s":
            where = row["setting"]
            same = {r["metric"]: r["value"] for r in rows if r["setting"] == where}
            yield Line(what=f"{where['device']}, {where['precision']}: {where['inner_steps']} steps, "
                            f"{where['tasks']} tasks", ours=f"{row['value']:,.0f}",
                       limit=f"{same['share_of_matrix_product_bound']:.1%} of the card", goal="numbers of CPU float64",
                       met=bool(same["within_tolerance"]))


PARTS = {"train_speed": train_speed, "embedding_scale": embedding_scale, "input_speed": input_speed,
         "serving_cost": serving_cost, "closed_form": closed_form, "serving": serving, "startup": startup,
         "scaling": scaling, "gpu": gpu}
# No part of `make bench`: the first needs a card, the second is run by itself.
_OPTIONAL = {"gpu", "closed_form"}


def bench_table(folder: pathlib.Path, *, markdown: bool = False) -> tuple[str, list[str]]:
    """Returns the table of all results files in a folder, and the names of those that are missing."""
    lines, missing, heads = [], [], {}
    for name, part in PARTS.items():
        path = folder / f"{name}.json"
        if path.exists():
            content = json.loads(path.read_text("utf-8"))
            lines += [line.cells() for line in part(content["rows"])]
            heads[name] = content["environment"]
        elif name not in _OPTIONAL:
            missing.append(name)
    if markdown:
        table = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *lines)]
    else:
        widths = [max(map(len, column)) for column in zip(HEAD, *lines, strict=True)]
        table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
                 for cells in (HEAD, ["-" * width for width in widths], *lines)]
    table += ["", *_origins(heads)] if heads else []
    return "\n".join(table), missing


def _origins(heads: dict[str, dict]) -> list[str]:
    """Returns a line for each machine that figures come from, with days and commits; which, where there are several."""
    machines: dict[str, list[str]] = {}
    for name, head in heads.items():
        version = head["versions"].get("tensorflow-cpu") or head["versions"].get("tensorflow")
        machines.setdefault(f"{head['processor']}, {head['threads']} threads, TensorFlow {version}", []).append(name)
    lines = []
    for machine, names in machines.items():
        days = sorted({heads[name]["date"][:10] for name in names})
        commits = sorted({heads[name]["commit"][:10] for name in names})
        lines += [f"{machine}, {' to '.join(dict.fromkeys((days[0], days[-1])))}, commit {', '.join(commits)}"
                  + (f": {', '.join(names)}" if len(machines) > 1 else ""), ""]
    return lines[:-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of the results files")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="document whose marked block is replaced")
    args = parser.parse_args()
    table, missing = bench_table(args.results, markdown=args.markdown or args.write is not None)
    if args.write is None:
        print(table)
    else:
        args.write.write_text(replace_block(args.write.read_text("utf-8"), table), "utf-8")
    if missing:
        print(f"\nNot measured: {', '.join(missing)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
