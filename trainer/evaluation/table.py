"""Evaluation rows as text for a terminal."""

from typing import Any

from tfmeta.metrics import lower_is_better

_ORDER = {"floor": 0, "reference": 1, "learner": 2, "ceiling": 3}
_NAMES = {"auc": "AUC", "mae": "MAE", "mrr": "MRR", "logloss": "log loss", "ndcg@5": "NDCG@5",
          "ndcg@20": "NDCG@20"}
# The columns, for the first set of which all have rows.
_COLUMNS = (("mae", "ndcg@5", "auc"), ("logloss", "ndcg@5", "auc"), ("ndcg@5", "mrr", "auc"))


def format_table(rows: list[dict[str, Any]], *, metrics: tuple[str, ...] | None = None, task_side: str = "user") -> str:
    """Returns one aligned table per state: floor, references, learners at each k with their gain, ceilings.

    References and ceilings are shown at the largest k. `*` marks the strongest reference of a column, `+` a
    learner's value at the largest k that is better than it.

    Args:
      rows: of `Evaluation.rows()`; of several seeds the aggregate is shown.
      metrics: columns; default error, NDCG@5 and AUC as far as the label's unit has them, and recall and NDCG over the
        whole catalogue where they were measured.
      task_side: whether metrics are averaged over users or items.
    """
    blocks = []
    for state in dict.fromkeys(row["state"] for row in rows):
        blocks.append(_state_table([r for r in rows if r["state"] == state], state, metrics, f"{task_side}s"))
    return "\n\n".join(blocks)


def _state_table(rows: list[dict[str, Any]], state: str, metrics: tuple[str, ...] | None, owners: str) -> str:
    aggregated = {r["model"] for r in rows if r["seed"] == "mean"}
    rows = [r for r in rows if r["seed"] == "mean" or r["model"] not in aggregated]
    if metrics is None:
        present = {r["metric"] for r in rows if r["role"] == "learner"} or {r["metric"] for r in rows}
        # Over the whole catalogue, with a cut-off of their own.
        cutoffs = [m.partition("@")[2] for m in sorted(present) if m.startswith("recall@")]
        catalogue = tuple(f"{name}@{k}" for k in cutoffs if f"f1@{k}" not in present for name in ("ndcg", "recall"))
        metrics = (*next((c for c in _COLUMNS if set(c) <= present), () if catalogue else ("auc",)), *catalogue)
    table = {(r["model"], r["seed"], r["k"], r["metric"]): r for r in rows}
    models = sorted(dict.fromkeys((r["model"], r["seed"], r["role"], r["uses_history"]) for r in rows),
                    key=lambda m: _ORDER[m[2]])
    last = max((r["k"] for r in rows), key=_k_order)
    references = [r for r in rows if r["role"] == "reference" and r["k"] == last]
    best = {metric: _best([r for r in references if r["metric"] == metric], metric) for metric in metrics}
    lines = [("", "k", *(_NAMES.get(m, m) for m in metrics))]
    role_before = None
    for model, seed, role, history in models:
        if role_before not in (None, role):
            lines.append(())
        role_before = role
        own = sorted({r["k"] for r in rows if r["model"] == model and r["seed"] == seed}, key=_k_order)
        name = model + (" (uses history)" if history else "")
        for k in own if role == "learner" else own[-1:]:
            cells = [_value(table.get((model, seed, k, m)), best[m], k == last) for m in metrics]
            lines.append((name, str(k) if role == "learner" else "", *cells))
            name = ""
        gains = [table.get((model, seed, own[-1], f"gain_{m}")) for m in metrics]
        if any(gains):
            lines.append(("gain from adaptation", str(own[-1]), *(_gain(r) for r in gains)))
            lines.append(("  95 % interval", "", *(_interval(r) for r in gains)))
        tested = [table.get((model, seed, last, m)) for m in metrics]
        if role == "learner" and any(r and r["p_value"] is not None for r in tested):
            lines.append(("minus the best *", str(last), *map(_difference, tested, (best[m] for m in metrics))))
            lines.append(("  p", "", *map(_p_value, tested)))
    count = max((r["users"] for r in rows), default=0)
    title = f"{state} ({count} {owners}; less is better for {', '.join(_lower(metrics)) or 'none'})"
    return "\n".join([title, *_align(lines)])


def _align(lines: list[tuple[str, ...]]) -> list[str]:
    width = [max(len(line[i]) for line in lines if line) for i in range(len(lines[0]))]
    rule = "-" * (sum(width) + 2 * (len(width) - 1))
    text = []
    for line in lines:
        cells = [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, width, strict=False))]
        text.append("  ".join(cells).rstrip() or rule)
    return [text[0], rule, *text[1:]]


def _best(rows: list[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    rows = [r for r in rows if r["value"] is not None]
    return (min if lower_is_better(metric) else max)(rows, key=lambda r: r["value"]) if rows else None


def _value(row: dict[str, Any] | None, best: dict[str, Any] | None, last: bool) -> str:
    if row is None or row["value"] is None:
        return "- "
    mark = " "
    if best is not None and last:
        sign = -1 if lower_is_better(row["metric"]) else 1
        if row["model"] == best["model"]:
            mark = "*"
        elif row["role"] == "learner" and sign * (row["value"] - best["value"]) > 0:
            mark = "+"
    return f"{row['value']:.4f}{mark}"


def _gain(row: dict[str, Any] | None) -> str:
    return "- " if row is None or row["value"] is None else f"{row['value']:+.4f} "


def _difference(row: dict[str, Any] | None, best: dict[str, Any] | None) -> str:
    if row is None or best is None or row["value"] is None:
        return "- "
    return f"{row['value'] - best['value']:+.4f} "


def _interval(row: dict[str, Any] | None) -> str:
    return "- " if row is None or row["low"] is None else f"[{row['low']:+.4f}, {row['high']:+.4f}] "


def _p_value(row: dict[str, Any] | None) -> str:
    return "- " if row is None or row["p_value"] is None else f"{row['p_value']:.2g} "


def _lower(metrics: tuple[str, ...]) -> list[str]:
    return [_NAMES.get(m, m) for m in metrics if lower_is_better(m)]


def _k_order(k: int | str) -> float:
    return float("inf") if k == "all" else float(k)
