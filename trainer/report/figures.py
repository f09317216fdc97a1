"""The report's figures as inline SVG."""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfmeta.data.task_set import STATES
from tfmeta.metrics import lower_is_better
from trainer.report.result_rows import ATTAINABLE, ResultRows, k_order
from trainer.report.words import metric_name, model_name, state_name

INK, MUTED, GRID = "#1b2330", "#667085", "#e4e7ec"
LEARNER = ("#1d4ed8", "#7c3aed", "#0e7490")
REFERENCE = ("#b45309", "#be185d", "#4d7c0f", "#0f766e", "#6b7280")
BETTER, WORSE = "#1d4ed8", "#b42318"

STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#98a2b3",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
MAX_REFERENCES = 4


def k_shot_curves(rows: ResultRows, state: str, metric: str) -> str | None:
    """Draws a metric over the support interactions: learners, baselines, chance; None without a learner.

    Baselines that have a value for one k only are horizontal lines. Only the best few baselines are drawn.
    """
    learners = [m for m in rows.models(state, "learner") if rows.curve(state, m, metric)]
    if not learners:
        return None
    ticks = sorted({r["k"] for m in learners for r in rows.curve(state, m, metric)}, key=k_order)
    position, digits = {str(k): i for i, k in enumerate(ticks)}, rows.digits(metric)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        labels = []
        # Random scores are there as the chance floor.
        references = [rows.last(state, m, metric) for m in rows.models(state, "reference") if m != "random"]
        references = sorted((r for r in references if r), key=lambda r: r["value"],
                            reverse=not lower_is_better(metric))
        shown = [*learners, *(r["model"] for r in references[:MAX_REFERENCES])]
        drawn = [r["value"] for model in shown for r in rows.curve(state, model, metric)]
        for color, last in zip(REFERENCE, references[:MAX_REFERENCES], strict=False):
            curve = [r for r in rows.curve(state, last["model"], metric) if str(r["k"]) in position]
            if len(curve) > 1:
                axes.plot([position[str(r["k"])] for r in curve], [r["value"] for r in curve], color=color,
                          linewidth=1.3, linestyle=(0, (4, 2)), marker="o", markersize=2.5)
            else:
                axes.axhline(last["value"], color=color, linewidth=1.3, linestyle=(0, (4, 2)))
            labels.append((last["value"], model_name(last["model"]), color, "normal"))
        attainable = [r for r in rows.curve(state, ATTAINABLE, metric) if str(r["k"]) in position]
        if attainable:
            axes.plot([position[str(r["k"])] for r in attainable], [r["value"] for r in attainable], color=MUTED,
                      linewidth=1.3, linestyle=":")
            labels.append((attainable[-1]["value"], model_name(ATTAINABLE), MUTED, "normal"))
        for role, style in (("floor", ":"), ("ceiling", ":")):
            best = rows.best(state, role, metric)
            if best is None:
                continue
            if _near(best["value"], drawn, above=(role == "ceiling") != lower_is_better(metric)):
                axes.axhline(best["value"], color="#98a2b3", linewidth=1.3, linestyle=style)
                labels.append((best["value"], model_name(best["model"]), MUTED, "normal"))
            elif role == "floor":
                axes.annotate(f"{model_name(best['model'])}: {best['value']:.{digits}f}, off the axis",
                              (0.98, 0.94 if lower_is_better(metric) else 0.04), xycoords="axes fraction", ha="right",
                              color=MUTED, fontsize=8.5)
        for color, model in zip(LEARNER, learners, strict=False):
            curve = rows.curve(state, model, metric)
            x = [position[str(r["k"])] for r in curve]
            y = [r["value"] for r in curve]
            axes.plot(x, y, color=color, linewidth=2.4, marker="o", markersize=4.5, zorder=4)
            low, high = [r.get("low") for r in curve], [r.get("high") for r in curve]
            if None not in low and None not in high:
                axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0, zorder=2)
            labels.append((y[-1], model_name(model), color, "bold"))
        axes.set_xticks(range(len(ticks)), [str(k) for k in ticks])
        axes.set_xlim(-0.3, len(ticks) - 0.7)
        axes.set_xlabel("support interactions k")
        axes.set_title(f"{metric_name(metric)} ({'lower' if lower_is_better(metric) else 'higher'} is better)")
        label_ends(axes, labels)

    alt = (f"{metric_name(metric)} in the {state_name(state)} state over the number of support interactions: "
           + "; ".join(f"{model_name(m)} " + ", ".join(f"{r['value']:.{digits}f} at k={r['k']}"
                                                       for r in rows.curve(state, m, metric)) for m in learners))
    return svg(draw, size=(4.6, 3.2), alt=alt, key=f"k-{state}-{metric}")


def gain_bars(rows: ResultRows, metric: str) -> str | None:
    """Draws adapted minus unadapted per state, with the interval where there is one; None without a gain."""
    bars = []
    for state in rows.states:
        for model in rows.models(state, "learner"):
            gain = rows.gain(state, model, metric)
            if gain is not None:
                bars.append((state, model, gain))
    if not bars:
        return None
    several = len({model for _, model, _ in bars}) > 1
    names = [f"{state_name(s)}, {model_name(m)}" if several else state_name(s) for s, m, _ in bars]
    form = f"+.{rows.digits(metric)}f"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        values = [g["value"] for *_, g in bars]
        good = [(v < 0) == lower_is_better(metric) or v == 0 for v in values]
        axes.barh(range(len(bars)), values, color=[BETTER if g else WORSE for g in good], height=0.55, zorder=2)
        edges = list(values)
        for i, (*_, gain) in enumerate(bars):
            if gain.get("low") is not None and gain.get("high") is not None:
                axes.plot([gain["low"], gain["high"]], [i, i], color=INK, linewidth=1.4, marker="|", zorder=3)
                edges += [gain["low"], gain["high"]]
        low, high = min(0.0, *edges), max(0.0, *edges)
        room = 0.24 * (high - low or 1.0)
        for i, value in enumerate(values):
            outer = [v for v in (value, bars[i][2].get("low"), bars[i][2].get("high")) if v is not None]
            right = value >= 0
            axes.annotate(f"{value:{form}}", (max(outer) if right else min(outer), i), xytext=(5 if right else -5, 0),
                          textcoords="offset points", va="center", ha="left" if right else "right", color=INK)
        axes.set_xlim(low - (room if low < 0 else 0), high + (room if high > 0 else 0))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.axvline(0, color="#98a2b3", linewidth=1)
        axes.set_yticks(range(len(bars)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_title(f"{metric_name(metric)}: adapted minus unadapted")
        axes.set_xlabel(f"{'below' if lower_is_better(metric) else 'above'} zero, adaptation helps")

    alt = f"Gain from adaptation in {metric_name(metric)}: " + ", ".join(
        f"{name} {g['value']:{form}}" for name, (*_, g) in zip(names, bars, strict=True))
    return svg(draw, size=(4.6, 1.25 + 0.4 * len(bars)), alt=alt, key=f"gain-{metric}")


def training_curves(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draws the training loss and one panel per validation metric, over the epochs.

    Args:
      history: one mapping an epoch: `epoch`, `train_<name>`, and `val_<metric>` (adapted), `val_base_<metric>`
        (unadapted), `val_<state>_<metric>`. Quantities of the machine (seconds, speed) are not drawn.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, record in enumerate(history):
        for key, value in record.items():
            match = _RECORDED.fullmatch(key)
            if match and isinstance(value, int | float) and value == value:
                series = _SERIES.get(match["part"] or match["set"]) or state_name(match["part"])
                panel = panels.setdefault(match["metric"], {})
                panel.setdefault(series, []).append((record.get("epoch", number + 1), float(value)))
    return [_training_panel(metric, panel) for metric, panel in
            sorted(panels.items(), key=lambda p: (p[0] != "loss", p[0])) if max(map(len, panel.values())) > 1]


_RECORDED = re.compile(rf"(?P<set>train|val)_(?:(?P<part>base|{'|'.join(STATES)})_)?(?P<metric>.+)")
_SERIES = {"train": "training", "val": "adapted", "base": "unadapted"}


def _training_panel(metric: str, series: dict[str, list[tuple[float, float]]]) -> str:
    states = [name for name in series if name not in _SERIES.values()]
    if len(states) == 1:  # The mean over the states is that state.
        series = {name: points for name, points in series.items() if name not in states}
    colors = {"adapted": LEARNER[0], "unadapted": "#98a2b3", "training": LEARNER[0],
              **dict(zip(states, REFERENCE, strict=False))}
    where = "training" if set(series) == {"training"} else "validation"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        labels = []
        for name, points in series.items():
            x, y = zip(*points, strict=True)
            color, main = colors.get(name, MUTED), name in ("adapted", "training")
            axes.plot(x, y, color=color, linewidth=2.4 if main else 1.3, marker="o" if len(x) < 30 else None,
                      markersize=3.5 if main else 2.5, zorder=4 if main else 3)
            labels.append((y[-1], name, color if color != "#98a2b3" else MUTED, "bold" if main else "normal"))
        axes.set_title(f"{metric_name(metric)}, {where} tasks" if metric != "loss" else "Outer loss, training tasks")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(labels) > 1:
            label_ends(axes, labels)

    alt = f"{metric_name(metric)} of {where} tasks over the epochs: " + "; ".join(
        f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in series.items())
    return svg(draw, size=(4.6, 2.9), alt=alt, key=f"training-{metric}")


def _near(value: float, drawn: list[float], *, above: bool) -> bool:
    """Whether a floor or ceiling can be drawn without flattening the curves below or above it."""
    return abs(value - (max(drawn) if above else min(drawn))) <= 0.8 * (max(drawn) - min(drawn))


def label_ends(axes, labels: list[tuple[float, str, str, str]], *, gap: float = 0.068) -> None:
    """Writes each line's name right of the axes at its height, moved apart where they would overlap.

    Args:
      axes: whose right edge is labelled.
      labels: (height in data units, text, colour, font weight).
      gap: least distance of two names, a share of the axes' height.
    """
    low, high = axes.get_ylim()
    places = sorted(((value - low) / (high - low), text, color, weight) for value, text, color, weight in labels)
    heights: list[float] = []
    for place, *_ in places:
        heights.append(max(place, heights[-1] + gap) if heights else place)
    overshoot = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for i in range(len(heights) - 1, -1, -1):
        limit = 1.0 if i == len(heights) - 1 else heights[i + 1] - gap
        heights[i] = min(heights[i], limit) if overshoot else heights[i]
    for height, (_, text, color, weight) in zip(heights, places, strict=True):
        axes.text(1.02, height, text, transform=axes.transAxes, color=color, va="center", fontweight=weight,
                  clip_on=False)


def svg(draw: Callable[[Figure], None], *, size: tuple[float, float], alt: str, key: str) -> str:
    """Renders to an `<svg>` element with an accessible name and ids that are unique in the page."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None,
                                                            "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
                  lambda m: f'<svg {m[1]} role="img" aria-label="{html.escape(alt)}">', text, count=1)
    prefix = re.sub(r"\W", "-", key)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text).strip()



def png(draw: Callable[[Figure], None], *, size: tuple[float, float], dpi: int = 110) -> bytes:
    """Renders to a PNG on white, for documents that cannot hold an SVG; the same drawing gives the same bytes."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white"}):
        figure = Figure(figsize=size, layout="constrained", dpi=dpi)
        draw(figure)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
