"""`tfmeta drift`: what has changed between two windows of the event log."""

import argparse

HELP = "Report what has changed between two windows of the event log"

_EPILOG = """\
examples:
  tfmeta drift --log events                                       the last 7 days against the 28 before them
  tfmeta drift --log events --days 1 --reference-days 7 --out reports/today
  tfmeta drift --log events --reference 2026-01-01:2026-03-31 --current 2026-06-01:2026-06-30 --out reports/june
  tfmeta drift --log events --runs runs/april runs/may runs/june --json

Features of users, and of the items that they interacted with, by the population stability index; the label; items that
the reference has not seen; and, with --runs, the gain from adaptation. The verdict is none, moderate or shifted:
an index of .1 or .25 above what chance makes of it, and a test that rejects chance. Small windows do not cry drift.
Writes OUT/drift.json and OUT/drift.html (one self-contained page). Days are UTC, bounds included."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta drift`."""
    parser.epilog = _EPILOG
    parser.add_argument("--log", required=True, metavar="LOG", help="event log, from 'tfmeta ingest'")
    parser.add_argument("--current", metavar="FIRST:LAST",
                        help="days of the window in question; either end may be left out")
    parser.add_argument("--reference", metavar="FIRST:LAST", help="days to compare it with; either end may be left out")
    parser.add_argument("--days", type=int, default=7, metavar="N",
                        help="without --current: the last N days of the log (default: %(default)s)")
    parser.add_argument("--reference-days", type=int, default=28, metavar="N",
                        help="without --reference: the N days before the current window (default: %(default)s)")
    parser.add_argument("--runs", metavar="RUN", nargs="+", default=[],
                        help="evaluated runs, for the gain from adaptation over time")
    parser.add_argument("--alpha", type=float, default=0.01, metavar="LEVEL",
                        help="share of quiet windows in which anything is called drift (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="also write drift.json and drift.html there")


def run(args: argparse.Namespace) -> int:
    """Compares, and prints the verdict with its reasons."""
    from tfmeta.errors import DataError
    from tfmeta.io import filesystem
    from trainer.feedback.drift import Window, drift_report
    from trainer.feedback.event_log import EventLog
    from trainer.feedback.gain_trend import read_gains

    log = EventLog.open(args.log)
    current, reference = _windows(args, log)
    windows = {}
    for name, (start, end) in (("current", current), ("reference", reference)):
        window = Window.from_log(log, start, end)
        if not len(window.interactions):
            dates = log.dates("outcome")
            there = f"outcomes from {dates[0]} to {dates[-1]}" if dates else "no outcomes"
            raise DataError(f"The {name} window requires outcomes from {start or 'the first day'} to "
                            f"{end or 'the last day'}, received none; the log has {there}.")
        windows[name] = window
    gains = read_gains(args.runs) if args.runs else None
    report = drift_report(windows["reference"], windows["current"], feature_spec=log.feature_spec, gains=gains,
                          alpha=args.alpha)
    if args.out is not None:
        filesystem.makedirs(args.out)
        filesystem.write_text(filesystem.join(args.out, "drift.json"), report.to_json())
        report.write_html(filesystem.join(args.out, "drift.html"))
    if args.json:
        print(report.to_json().replace("\n", ""))
    else:
        print(_describe(report, args.out))
    return 0


def _windows(args: argparse.Namespace, log):
    """Returns the bounds of the current window and of the reference."""
    import datetime

    from tfmeta.config import require
    from tfmeta.errors import DataError

    require(args.days >= 1, "--days", "at least 1", args.days)
    require(args.reference_days >= 1, "--reference-days", "at least 1", args.reference_days)
    dates = log.dates("outcome")
    if not dates:
        raise DataError(f"A drift report requires outcomes, event log '{log.path}' has none. Take some in with "
                        "'tfmeta ingest --outcomes FILE'.")
    if args.current is None:
        current = dates[-1] - datetime.timedelta(days=args.days - 1), dates[-1]
    else:
        current = _bounds("--current", args.current)
    if args.reference is not None:
        return current, _bounds("--reference", args.reference)
    last = (current[0] or dates[0]) - datetime.timedelta(days=1)
    return current, (last - datetime.timedelta(days=args.reference_days - 1), last)


def _bounds(option: str, text: str):
    import datetime

    from tfmeta.errors import ConfigError

    first, sign, last = text.partition(":")
    try:
        if not sign:
            raise ValueError
        first, last = (datetime.date.fromisoformat(day) if day else None for day in (first, last))
    except ValueError:
        raise ConfigError(f"{option} requires days as FIRST:LAST, such as 2026-01-01:2026-01-31, "
                          f"received '{text}'.") from None
    if first is not None and last is not None and last < first:
        raise ConfigError(f"{option} requires a last day not before the first, received '{text}'.")
    return first, last


def _describe(report, out: str | None) -> str:
    from tfmeta.io import filesystem

    lines = [f"Drift: {report.verdict}", *(f"  {reason}" for reason in report.reasons), ""]
    for name, window in (("reference", report.reference), ("current", report.current)):
        days = f"{window['first']} to {window['last']}" if window["first"] else "no dates"
        lines.append(f"  {name:<10} {days}: {window['users']:,} users, {window['items']:,} items, "
                     f"{window['interactions']:,} interactions")
    rows = [*report.features, *([report.label.stability] if report.label else [])]
    if rows:
        width = max(len(r.title) for r in rows)
        lines += ["", f"  {'':<{width}}  {'PSI':>7} {'chance':>7} {'p':>8}  verdict"]
        for row in rows:
            p = "-" if row.p_value is None else f"{row.p_value:.2g}"
            lines.append(f"  {row.title:<{width}}  {row.psi:7.3f} {row.noise:7.3f} {p:>8}  {row.verdict}")
    cold = report.cold
    lines += ["", f"  new: {cold.users:.0%} of users, {cold.items:.0%} of items, {cold.interactions:.1%} of "
              f"interactions with unseen items ({cold.expected:.1%} expected)"]
    if out is not None:
        lines.append(f"\nReport: {filesystem.join(out, 'drift.html')}")
    return "\n".join(lines)
