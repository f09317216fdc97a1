"""Prints the tables of quality in the documents from the results files.

    python -m benchmarks.results_table [FILE ...]     print the tables of results files; default the README's
    python -m benchmarks.results_table --write        put those of every document between its markers
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks.marked_block import replace_block
from tfmeta.metrics import lower_is_better

_ROOT = pathlib.Path(__file__).parents[1]
# Document -> the results files whose tables it shows.
DOCUMENTS = {document: tuple(_ROOT / "benchmarks" / "results" / name for name in names) for document, names in {
    "README.md": ("learners_ml1m.json", "genres_only/learners_ml1m.json"),
    "docs/benchmark.md": ("ml1m_main.json", "ml1m_genres_only.json")}.items()}
_METRICS = {"mae": "MAE", "ndcg@5": "NDCG@5", "auc": "AUC"}
_STATES = {"user_cold": "user-cold", "item_cold": "item-cold", "both_cold": "both-cold", "warm": "warm"}


def results_block(paths: Iterable[pathlib.Path]) -> str:
    """Returns the tables of the files, one below the other: of support sizes, where a file has several, and states."""
    tables = []
    for path in paths:
        results = json.loads(path.read_text("utf-8"))
        if any(row.get("k") not in (None, 0, "all") for row in results["rows"]):
            tables.append(k_shot_table(results))
        tables.append(results_table(results))
    return "\n\n".join(tables)


def results_table(results: dict[str, Any]) -> str:
    """Returns Markdown: a line per state and metric.

    Columns: chance floor; the strongest reference with its name; the selected learner without support and with all
    of it, with its 95 % interval; gain from adaptation; the learner's p-value against that reference.

    Args:
      results: `environment` and `rows`, as `trainer.evaluation` or the benchmark of learners writes them.

    Raises:
      ValueError: if no row is of a selected learner.
    """
    rows = _aggregates(results)
    lines = ["| state (users) | metric | chance | strongest baseline | unadapted | adapted (95 % interval) | gain from "
             "adaptation | p |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for state, state_name in _STATES.items():
        for metric, metric_name in _METRICS.items():
            found = [r for r in rows if r["state"] == state and r["metric"] == metric and r["value"] is not None]
            adapted = _pick(found, role="learner", selected=True, k="all")
            if adapted is None:
                continue
            unadapted = _pick(found, role="learner", model=adapted["model"], k=0)
            gain = _pick(rows, state=state, metric=f"gain_{metric}", model=adapted["model"], k="all")
            sign = 1 if lower_is_better(metric) else -1
            best = min((r for r in found if r["role"] == "reference" and r["k"] == "all"),
                       key=lambda r, s=sign: s * r["value"], default=None)
            lines.append("| " + " | ".join([
                f"{state_name} ({adapted['users']:,})" if metric == next(iter(_METRICS)) else "", metric_name,
                _number(_pick(found, role="floor", k="all")),
                "-" if best is None else f"{_number(best)} `{best['model']}`",
                _number(unadapted), f"**{_number(adapted)}** ({_interval(adapted)})",
                "-" if gain is None else f"{gain['value']:+.3f} ({_interval(gain, '+.3f')})",
                "-" if adapted["p_value"] is None else _p_value(adapted["p_value"])]) + " |")
    return "\n".join([*lines, "", _provenance(results)])


def k_shot_table(results: dict[str, Any], *, state: str = "user_cold", metric: str = "auc") -> str:
    """Returns Markdown: the selected learner and the two strongest references, a column for each support size.

    Args:
      results: as of `results_table`.
      state: of the test tasks.
      metric: to show.

    Raises:
      ValueError: if no row is of a selected learner.
    """
    rows = [r for r in _aggregates(results) if r["state"] == state and r["metric"] == metric and r["value"] is not None]
    sizes = sorted({r["k"] for r in rows if r["selected"]}, key=lambda k: (k == "all", k if k != "all" else 0))
    references = sorted((r for r in rows if r["role"] == "reference" and r["k"] == "all"),
                        key=lambda r: r["value"] if lower_is_better(metric) else -r["value"])
    names = [next(r["model"] for r in rows if r["selected"]), *(r["model"] for r in references[:2])]
    head = [f"{_METRICS[metric]}, {_STATES[state]}, support", *map(str, sizes)]
    lines = [[f"`{name}`", *(_number(_pick(rows, model=name, k=k)) for k in sizes)] for name in names]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def _aggregates(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of quality over all seeds, those with seed `"mean"` where there are several."""
    quality = [row for row in results["rows"] if "role" in row]
    averaged = {row["model"] for row in quality if row["seed"] == "mean"}
    rows = [row for row in quality if row["seed"] == "mean" or row["model"] not in averaged]
    if not any(row["selected"] for row in rows):
        raise ValueError("A results table requires rows of a selected learner; there are none.")
    return rows


def _provenance(results: dict[str, Any]) -> str:
    where = results["environment"]
    selected = [r for r in results["rows"] if r.get("selected")]
    seeds = sorted({r["seed"] for r in selected if r["seed"] != "mean"}, key=str)
    learner = selected[0]["model"]
    features = sorted({r["features"] for r in selected})
    return (f"Learner `{learner}`, features {', '.join(f'`{f}`' for f in features)}, mean of {max(len(seeds), 1)} "
            f"training seed{'s' if len(seeds) > 1 else ''}; p of a Wilcoxon test over users against the "
            "strongest baseline, Holm-corrected in the cold states. "
            f"{where['processor']}, {where['threads']} threads, commit `{where['commit'][:12]}`, {where['date'][:10]}: "
            f"`{where['command']}`.")


def _pick(rows: list[dict[str, Any]], **wanted) -> dict[str, Any] | None:
    return next((r for r in rows if all(r.get(k) == v for k, v in wanted.items())), None)


def _number(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{row['value']:.3f}"


def _interval(row: dict[str, Any], form: str = ".3f") -> str:
    return "-" if row["low"] is None else f"{row['low']:{form}} to {row['high']:{form}}"


def _p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 1e-3 else "< 0.001"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=pathlib.Path, help="files to print; default the README's")
    parser.add_argument("--write", action="store_true", help="write the documents instead")
    args = parser.parse_args()
    if args.write and args.results:
        parser.error(f"--write takes no files: each document has its own; received {args.results[0]}")
    try:
        if not args.write:
            print(results_block(args.results or DOCUMENTS["README.md"]))
            return 0
        for document, paths in DOCUMENTS.items():
            path = _ROOT / document
            path.write_text(replace_block(path.read_text("utf-8"), results_block(paths)), "utf-8")
    except (OSError, ValueError) as error:
        print(f"results_table: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
