"""`tfmeta refresh`: from the event log and the last run to the next version."""

import argparse
import json
import sys

HELP = "Refresh a model on the newest events: drift, warm start, evaluation, gate, next version"

_EPILOG = """\
Takes the newest window of the event log, reports how it differs from what the last run was trained on, and evaluates
that run on the users who arrived last. Where nothing has changed and the model holds its gain from adaptation, that is
all (`not_needed`). Otherwise it trains on from the last run's weights on the window, with old tasks mixed in, and
evaluates both models on the users who arrived last, whom neither has seen. A model that loses to the old one, or that
the gate keeps back, is not exported (`refused`, exit code 1).

Killed at any moment and started again, it goes on where it was: steps whose inputs have not changed are not repeated.

examples:
  tfmeta refresh --log events --from runs/7 --out refresh/8 --dry-run
  tfmeta refresh --log events --from runs/7 --out refresh/8 --model-base models/movies
  tfmeta refresh --log events --from runs/7 --out refresh/8 --model-base models/movies --config models.config \\
    --name movies --promote canary
  tfmeta refresh --log events --from runs/7 --out refresh/8 --set window_days=14 --set replay_share=0.5
  tfmeta refresh --print-settings
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta refresh`."""
    parser.epilog = _EPILOG
    parser.add_argument("--log", metavar="LOG", help="event log, from 'tfmeta ingest'")
    parser.add_argument("--from", metavar="RUN", dest="run", help="the last run, on whose weights training goes on")
    parser.add_argument("--data", metavar="DIR", help="the last run's prepared directory, if it has moved")
    parser.add_argument("--out", metavar="OUT", help="directory of this refresh: report, data, run")
    parser.add_argument("--settings", metavar="FILE", help="YAML file with settings of the refresh")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="one setting, such as replay_share=0.5; repeatable")
    parser.add_argument("--print-settings", action="store_true", help="print all settings and stop")
    parser.add_argument("--model-base", metavar="BASE", help="export the next version here")
    parser.add_argument("--config", metavar="FILE", help="models.config to promote in")
    parser.add_argument("--name", metavar="NAME", help="name of the model in it")
    parser.add_argument("--promote", choices=("canary",), help="label of the new version; stable: 'tfmeta promote'")
    parser.add_argument("--force", action="store_true", help="refresh although nothing has changed")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; train and write nothing")


def run(args: argparse.Namespace) -> int:
    """Refreshes, and says what was decided and why."""
    from tfmeta import config
    from tfmeta.errors import ConfigError
    from trainer.feedback.refresh_config import RefreshConfig

    values = {} if args.settings is None else config.load_yaml(args.settings)
    settings = config.parse(RefreshConfig, config.apply_overrides(values, args.overrides))
    if args.print_settings:
        import yaml

        known = config.to_dict(settings)
        print(json.dumps(known) if args.json else yaml.safe_dump(known, sort_keys=False), end="")
        return 0
    for option, name in (("log", "--log"), ("run", "--from"), ("out", "--out")):
        if getattr(args, option) is None:
            raise ConfigError(f"'tfmeta refresh' requires {name}. See 'tfmeta refresh --help'.")
    if args.promote and not (args.config and args.name and args.model_base):
        raise ConfigError("--promote requires --model-base, --config and --name: what to export and where to label it.")
    if not args.promote and (args.config or args.name):
        raise ConfigError("--config and --name go with --promote.")
    from trainer.feedback.event_log import EventLog
    from trainer.feedback.refresh import refresh

    report = refresh(log=EventLog.open(args.log), run=args.run, out=args.out, config=settings, data=args.data,
                     model_base=args.model_base, models_config=args.config, name=args.name, promote_to=args.promote,
                     force=args.force, dry_run=args.dry_run, progress=not args.json and sys.stderr.isatty())
    print(json.dumps(report) if args.json else _describe(report))
    return 1 if report["decision"] == "refused" else 0


def _describe(report: dict) -> str:
    words = {"refreshed": "Refreshed", "not_needed": "No refresh needed", "refused": "Refused",
             "would_refresh": "Would refresh"}
    lines = [f"{words[report['decision']]}: {report['window']['start']} to {report['window']['end']}, "
             f"{report['data']['new_tasks']:,} new tasks, {report['data']['test_users']:,} users to test on"]
    lines += [f"  {reason}" for reason in report["reasons"]]
    for name, found in report["evaluation"].items():
        lines.append(f"  {name:<10} {report['metric']} {found['value']:.4f}, unadapted {found['unadapted']:.4f}")
    if report.get("version"):
        lines.append(f"  exported    {report['version']}")
    if report.get("promotion"):
        lines.append(f"  promotion   {report['promotion']['text']}")
    return "\n".join(lines)
