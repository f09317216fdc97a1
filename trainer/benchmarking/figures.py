"""Figures of a benchmark: each returns (drawing, size in inches, what it shows in words)."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from tfmeta.metrics import lower_is_better
from trainer.report.figures import INK, LEARNER, MUTED, REFERENCE, label_ends
from trainer.report.result_rows import ResultRows, k_order
from trainer.report.words import metric_name, model_name, state_name

Drawing = tuple[Callable[[Figure], None], tuple[float, float], str]

FAMILY_COLORS = {"gradient": "#1d4ed8", "closed_form": "#7c3aed", "amortised": "#0e7490", "memory": "#be185d",
                 "item_side": "#4d7c0f", "reference": "#b45309", "other": "#6b7280"}
# Names beside curves; more would overlap.
_NAMED = 7


def k_shot(rows: ResultRows, metric: str) -> Drawing | None:
    """A panel a state: the metric over the support, the selected learner and the best reference marked."""
    states = [s for s in rows.states if any(len(rows.curve(s, m, metric)) > 1 for m in rows.models(s, "learner"))]
    if not states:
        return None
    sign = 1 if lower_is_better(metric) else -1

    def draw(figure: Figure) -> None:
        for axes, state in zip(figure.subplots(1, len(states), squeeze=False)[0], states, strict=True):
            learners = [m for m in rows.models(state, "learner") if rows.curve(state, m, metric)]
            references = [m for m in rows.models(state, "reference") if rows.curve(state, m, metric) and m != "random"]

            def final(model, state=state):
                return sign * rows.last(state, model, metric)["value"]

            selected = {r["model"] for r in rows.select(state=state, role="learner", selected=True)}
            ranked = sorted(learners, key=lambda m: (m not in selected, final(m)))
            best = sorted(references, key=final)[:2]
            ticks = sorted({r["k"] for m in learners for r in rows.curve(state, m, metric)}, key=k_order)
            place = {str(k): i for i, k in enumerate(ticks)}
            labels = []
            for number, model in enumerate([*ranked, *best]):
                curve = [r for r in rows.curve(state, model, metric) if str(r["k"]) in place]
                x, y = [place[str(r["k"])] for r in curve], [r["value"] for r in curve]
                reference, chosen = model in best, model in selected
                color = (REFERENCE[best.index(model)] if reference else LEARNER[0] if chosen else
                         "#64748b" if number < _NAMED else "#cbd5e1")
                axes.plot(x, y, color=color, linewidth=2.6 if chosen else 1.3, zorder=5 if chosen else 3,
                          linestyle=(0, (4, 2)) if reference else "-", marker="o", markersize=4 if chosen else 2)
                if chosen and None not in [r.get("low") for r in curve]:
                    axes.fill_between(x, [r["low"] for r in curve], [r["high"] for r in curve], color=color, alpha=0.13,
                                      linewidth=0)
                if number < _NAMED or reference:
                    labels.append((y[-1], model_name(model), color, "bold" if chosen else "normal"))
            axes.set_xticks(range(len(ticks)), [str(k) for k in ticks])
            axes.set_xlabel("support interactions k")
            axes.set_title(state_name(state))
            label_ends(axes, labels, gap=0.05)
        better = "lower" if lower_is_better(metric) else "higher"
        figure.axes[0].set_ylabel(f"{metric_name(metric)} ({better} is better)")

    alt = (f"{metric_name(metric)} over the number of support interactions, a panel a state: "
           f"{', '.join(map(state_name, states))}.")
    return draw, (4.6 * len(states), 4.2), alt


def pareto(rows: ResultRows, costs: Mapping[str, Mapping[str, float]], families: Mapping[str, str],
           metric: str) -> Drawing | None:
    """Two panels a state: the metric against seconds of training and against microseconds of adaptation a user.

    Args:
      rows: quality.
      costs: system -> `train_seconds` and `adapt_us_per_user`.
      families: system -> family, for the colour.
      metric: of quality, with the whole support.
    """
    states = [s for s in rows.states if s != "warm"] or rows.states
    points: dict[str, list[tuple[str, float]]] = {}
    for state in states:
        for role in ("reference", "learner"):
            for model in rows.models(state, role):
                row = rows.last(state, model, metric)
                if row is not None and model in costs and model != "random":
                    points.setdefault(state, []).append((model, row["value"]))
    if not points:
        return None
    states = [s for s in states if s in points]
    lower = lower_is_better(metric)
    axes_of = (("train_seconds", "training, seconds", 0.01), ("adapt_us_per_user", "adaptation, µs a user", 0.1))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(states), 2, squeeze=False)
        for line, state in zip(grid, states, strict=True):
            for axes, (cost, title, least) in zip(line, axes_of, strict=True):
                known = [(max(costs[m][cost], least), value, m) for m, value in points[state] if cost in costs[m]]
                for x, y, model in known:
                    axes.scatter(x, y, color=FAMILY_COLORS.get(families.get(model, "other"), MUTED), s=26, zorder=3)
                    axes.annotate(model_name(model), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7,
                                  color=MUTED)
                front = frontier([(x, y) for x, y, _ in known], lower=lower)
                axes.step([x for x, _ in front], [y for _, y in front], where="post", color=INK, linewidth=1,
                          linestyle=":", zorder=2)
                axes.set_xscale("log")
                axes.set_title(f"{state_name(state)}: {metric_name(metric)}")
                axes.set_xlabel(title)
        names = [f for f in FAMILY_COLORS if any(families.get(m) == f for m, _ in points[states[0]])]
        for family in names:
            grid[0][0].scatter([], [], color=FAMILY_COLORS[family], s=26, label=family.replace("_", " "))
        figure.legend(loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)

    alt = (f"{metric_name(metric)} with the whole support against the cost of training and of adaptation; the dotted "
           "line joins the systems that no other beats in both.")
    return draw, (10.5, 3.8 * len(states)), alt


def gains(rows: ResultRows, metric: str) -> Drawing | None:
    """A panel a state: adapted minus unadapted of every learner with its interval, the largest gain on top."""
    found = {}
    for state in rows.states:
        values = [(m, g) for m in rows.models(state, "learner") if (g := rows.gain(state, m, metric)) is not None]
        if values:
            found[state] = values
    if not found:
        return None
    lower = lower_is_better(metric)

    def draw(figure: Figure) -> None:
        for axes, (state, values) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
            values = sorted(values, key=lambda pair: pair[1]["value"] * (-1 if lower else 1))
            for place, (_, gain) in enumerate(values):
                good = (gain["value"] < 0) == lower
                color = LEARNER[0] if good else "#b42318"
                if gain.get("low") is not None and gain.get("high") is not None:
                    axes.plot([gain["low"], gain["high"]], [place, place], color=color, linewidth=1.4)
                axes.plot([gain["value"]], [place], "o", color=color, markersize=4.5)
            axes.axvline(0, color="#98a2b3", linewidth=1)
            axes.set_yticks(range(len(values)), [model_name(m) for m, _ in values])
            axes.set_title(f"{state_name(state)}: {metric_name(metric)}")
            axes.set_xlabel("adapted minus unadapted")

    alt = f"Gain from adaptation in {metric_name(metric)}, a panel a state, with 95 % intervals."
    return draw, (4.4 * len(found), 1.2 + 0.24 * max(map(len, found.values()))), alt


def frontier(points: list[tuple[float, float]], *, lower: bool) -> list[tuple[float, float]]:
    """Returns the (cost, quality) points that no other beats in both, by ascending cost."""
    kept: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda p: (p[0], p[1] if lower else -p[1])):
        if not kept or (quality < kept[-1][1] if lower else quality > kept[-1][1]):
            kept.append((cost, quality))
    return kept


def system_costs(costs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns system -> metric -> value of cost rows."""
    found: dict[str, dict[str, float]] = {}
    for row in costs:
        found.setdefault(row["system"], {})[row["metric"]] = row["value"]
    return found
