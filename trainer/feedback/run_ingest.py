"""`tfmeta ingest`: served requests and observed outcomes into the event log."""

import argparse

HELP = "Append served requests and outcomes to the event log"

_EPILOG = """\
examples:
  tfmeta ingest --log events --spec runs/first --outcomes "exports/ratings-*.csv" --users users.csv --items items.csv
  tfmeta ingest --log events --requests requests.jsonl --outcomes outcomes.parquet
  tfmeta ingest --log events --outcomes ratings.csv --column time=rated_at --column event_id=uuid --json

CSV, Parquet and JSON lines (.csv, .parquet, .jsonl, text also with .gz), told by their names. Columns: the user, the
item and 'time' (unix seconds or ISO 8601); of outcomes the label; of requests, where known, 'score', 'request_id',
'model_version' and 'adapted'. A row of requests may hold lists of items and scores. 'event_id' makes a row known for
ever; without it an id is derived from source, kind, time, request, user and item.

A file is taken in whole or not at all, an event once, however often it is given: after an interruption give the same
command again. Bad rows go to LOG/quarantine; more than --max-bad-share of a file is an error. --users and --items
replace the rows of the ids that they name. Only the first ingest needs --spec."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta ingest`."""
    parser.epilog = _EPILOG
    parser.add_argument("--log", required=True, metavar="LOG", help="event log, a directory; made where there is none")
    parser.add_argument("--spec", metavar="PATH", help="run, prepared directory or feature_spec.json: features and "
                        "label of the model, to start a log with")
    parser.add_argument("--without", metavar="NAME", action="append", default=[],
                        help="feature that the users' or items' files do not have, such as one that 'tfmeta data "
                        "enrich' made; with --spec, repeatable")
    parser.add_argument("--requests", metavar="FILE", nargs="+", default=[], help="served requests: paths or globs")
    parser.add_argument("--outcomes", metavar="FILE", nargs="+", default=[], help="observed outcomes: paths or globs")
    parser.add_argument("--users", metavar="FILE", nargs="+", default=[], help="features of users: paths or globs")
    parser.add_argument("--items", metavar="FILE", nargs="+", default=[], help="features of items: paths or globs")
    parser.add_argument("--column", metavar="COLUMN=NAME", action="append", default=[],
                        help="what the files call a column of events, such as time=rated_at; repeatable")
    parser.add_argument("--source", default="", metavar="NAME", help="name of the stream, part of derived event ids")
    parser.add_argument("--max-bad-share", type=float, default=0.05, metavar="SHARE",
                        help="highest share of bad rows of a file (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Takes the files in, and prints what became of their rows."""
    import json
    import sys

    from tfmeta.batch.input_plan import find_files
    from tfmeta.errors import ConfigError, DataError

    kinds = ("users", "items", "requests", "outcomes")
    if not any(getattr(args, kind) for kind in kinds):
        raise ConfigError("'tfmeta ingest' requires at least one of --requests, --outcomes, --users, --items.")
    columns = _columns(args.column)
    files = {kind: find_files(tuple(getattr(args, kind))) for kind in kinds}
    log = _open(args)
    common = {"max_bad_share": args.max_bad_share, "progress": sys.stderr.isatty() and not args.json}
    reports = {}
    for kind in kinds:
        if files[kind]:
            if kind in ("users", "items"):
                reports[kind] = log.update_table(kind[:-1], files[kind], **common)
            else:
                reports[kind] = log.ingest(files[kind], kind=kind[:-1], columns=columns, source=args.source, **common)
    if args.json:
        print(json.dumps({"log": log.path, **{k: r.to_dict() for k, r in reports.items()}}, ensure_ascii=False))
    else:
        print(f"Event log {log.path}")
        for kind, report in reports.items():
            print(_describe(kind, report))
    sys.stdout.flush()
    unreadable = {file: why for report in reports.values() for file, why in report.unreadable.items()}
    if unreadable:
        file, why = next(iter(unreadable.items()))
        more = f" ({len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise DataError(f"'{file}' cannot be read{more}: {why} The other files are in the log; mend it and give the "
                        "same command again.")
    return 0


def read_spec(path: str):
    """Returns the feature specification of a run, a prepared directory or a file.

    Raises:
      DataError: if there is none.
    """
    from tfmeta.data.feature_spec import FeatureSpec
    from tfmeta.errors import DataError
    from tfmeta.io import filesystem

    file = filesystem.join(path, "feature_spec.json") if filesystem.is_dir(path) else path
    if not filesystem.exists(file):
        raise DataError(f"'{path}' requires a feature_spec.json: name a run, a prepared directory or the file itself.")
    return FeatureSpec.from_json(filesystem.read_text(file))


def _open(args: argparse.Namespace):
    import dataclasses

    from tfmeta.errors import ConfigError, suggest
    from trainer.feedback.event_log import EventLog

    if args.spec is None:
        if args.without:
            raise ConfigError("--without requires --spec.")
        return EventLog.open(args.log)
    spec = read_spec(args.spec)
    known = [f.name for f in (*spec.user_features, *spec.item_features)]
    for name in args.without:
        if name not in known:
            raise ConfigError(f"--without names no feature '{name}'.{suggest(name, known)}")
    sides = {side: tuple(f for f in getattr(spec, side) if f.name not in args.without)
             for side in ("user_features", "item_features")}
    return EventLog.create(args.log, dataclasses.replace(spec, **sides))


def _columns(pairs: list[str]) -> dict[str, str]:
    from tfmeta.errors import ConfigError

    columns = {}
    for pair in pairs:
        column, sign, name = pair.partition("=")
        if not (column and sign and name):
            raise ConfigError(f"--column requires the form COLUMN=NAME, received '{pair}'.")
        columns[column] = name
    return columns


def _describe(kind: str, report) -> str:
    known = f" ({report.known_files} known already)" if report.known_files else ""
    lines = [f"  {kind:<9} {report.files} files{known}: {report.read:,} rows, {report.taken:,} taken, "
             f"{report.duplicates:,} duplicates, {sum(report.quarantined.values()):,} quarantined"]
    if report.partitions:
        lines.append(f"            days {report.partitions[0]} to {report.partitions[-1]}")
    lines += [f"            {reason}: {count:,}" for reason, count in (*report.quarantined.items(),
                                                                      *report.replaced.items())]
    if report.first_bad is not None:
        file, row, reason, content = report.first_bad
        lines.append(f"            first: '{file}', data row {row}, {reason}: {content[:200]}")
    return "\n".join(lines)
