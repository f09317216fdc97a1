"""The drift report as one self-contained HTML page."""

import importlib.resources
from collections.abc import Sequence

from matplotlib.figure import Figure

from tfmeta import __version__
from tfmeta.io import filesystem
from trainer.feedback.drift_report import DriftReport
from trainer.feedback.feature_drift import FeatureDrift
from trainer.feedback.gain_trend import GainTrend
from trainer.feedback.population_stability import MODERATE, SHIFTED
from trainer.report import figures
from trainer.report.words import metric_name, state_name

_COLORS = {"stable": "#98a2b3", "moderate": "#d97706", "shifted": "#b42318"}
_MAX_BARS, _MAX_HISTOGRAMS = 30, 6
_REFERENCE, _CURRENT = "#98a2b3", figures.LEARNER[0]


def write_drift_page(path: str, report: DriftReport) -> str:
    """Writes the page: no script, no request to anywhere.

    Args:
      path: the HTML file, on any file system; an existing one is replaced.
      report: what it shows.

    Returns:
      `path`.
    """
    import jinja2

    rows = [*report.features, *([report.label.stability] if report.label else [])]
    rows.sort(key=lambda r: (-list(_COLORS).index(r.verdict), -r.above_noise))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        importlib.resources.files("trainer.feedback").joinpath("drift.html.j2").read_text("utf-8"))
    shown = [r for r in rows if r.kind != "label" and r.histogram][:_MAX_HISTOGRAMS]
    page = template.render(
        report=report, rows=rows, thresholds=(MODERATE, SHIFTED), version=__version__,
        bars=_stability_bars(rows[:_MAX_BARS]) if rows else "", histograms=[_histogram(r) for r in shown],
        label=_histogram(report.label.stability) if report.label else "",
        gain=_gain_curve(report.gain) if report.gain else "")
    filesystem.write_text(path, page)
    return path


def _stability_bars(rows: Sequence[FeatureDrift]) -> str:
    """Draws the index of each feature, the part that chance explains pale, and both thresholds above that part."""
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        place = range(len(rows))
        noise = [min(r.noise, r.psi) for r in rows]
        axes.barh(place, noise, color=figures.GRID, height=0.6, zorder=2)
        axes.barh(place, [r.above_noise for r in rows], left=noise, color=[_COLORS[r.verdict] for r in rows],
                  height=0.6, zorder=2)
        for threshold, color in ((MODERATE, _COLORS["moderate"]), (SHIFTED, _COLORS["shifted"])):
            for i, start in enumerate(noise):
                axes.plot([start + threshold] * 2, [i - 0.38, i + 0.38], color=color, linewidth=1.2, zorder=3)
            axes.plot([], [], color=color, linewidth=1.2, label=f"{threshold:g} above chance")
        for i, row in enumerate(rows):
            axes.annotate(f"{row.psi:.3f}", (row.psi, i), xytext=(4, 0), textcoords="offset points", va="center",
                          color=figures.INK, fontsize=8.5, zorder=4)
        axes.set_yticks(place, [r.title for r in rows])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=figures.INK)
        axes.set_title("Population stability index; pale: by chance")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)

    alt = "Population stability index: " + ", ".join(f"{r.title} {r.psi:.3f} ({r.verdict})" for r in rows)
    return figures.svg(draw, size=(5.4, 1.5 + 0.32 * len(rows)), alt=alt, key="psi")


def _histogram(drift: FeatureDrift) -> str:
    """Draws the shares of the cells in both windows, side by side."""
    names = [name if len(name) <= 22 else name[:21] + "…" for name, _, _ in drift.histogram]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for side, (color, word) in enumerate(((_REFERENCE, "reference"), (_CURRENT, "current"))):
            axes.barh([i + (side - 0.5) * 0.36 for i in range(len(names))], [c[1 + side] for c in drift.histogram],
                      color=color, height=0.34, zorder=2, label=word)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=figures.INK)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_title(f"{drift.title}: PSI {drift.psi:.3f}, {drift.verdict}")
        axes.legend(loc="best", frameon=False, fontsize=8.5)

    alt = f"{drift.title} before and now: " + ", ".join(f"{n} {a:.0%} to {b:.0%}" for n, a, b in drift.histogram)
    return figures.svg(draw, size=(4.6, 1.2 + 0.34 * len(names)), alt=alt, key=f"cells-{drift.side}-{drift.name}")


def _gain_curve(gain: GainTrend) -> str:
    """Draws the gain over the periods, with its intervals where they are known."""
    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        place, values = range(len(gain.points)), [p["gain"] for p in gain.points]
        axes.plot(place, values, color=_CURRENT, linewidth=2.2, marker="o", markersize=4.5, zorder=4)
        for i, point in enumerate(gain.points):
            if point["low"] is not None:
                axes.plot([i, i], [point["low"], point["high"]], color=figures.INK, linewidth=1.3, marker="_", zorder=3)
        axes.axhline(0, color="#98a2b3", linewidth=1)
        axes.set_xticks(place, [p["period"][:16] for p in gain.points], rotation=20, ha="right")
        axes.set_title(f"{metric_name(gain.metric)} gained, {state_name(gain.state)}")

    alt = f"Gain from adaptation in {metric_name(gain.metric)}: " + ", ".join(
        f"{p['period']} {p['gain']:+.4f}" for p in gain.points)
    return figures.svg(draw, size=(4.6, 3.0), alt=alt, key="gain")
