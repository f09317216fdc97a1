"""`tfmeta data`: from raw interactions to a prepared directory, and content profiles of its items."""

import argparse
import json
import sys

HELP = "Prepare raw interactions for training and evaluation"

_DATASETS = ("ml-1m", "ml-100k", "yelp", "gift-cards", "csv", "parquet", "synthetic")

_EPILOG = """\
examples:
  tfmeta data prepare --dataset synthetic --out prepared
  tfmeta data prepare --dataset ml-1m --out prepared                 downloads MovieLens-1M from GroupLens
  tfmeta data prepare --dataset ml-1m --source DIR --no-validation --out refit
  tfmeta data prepare --dataset csv --source DIR --schema schema.yaml --set mode=temporal --out prepared
  tfmeta data prepare --dataset ml-1m --source DIR --tasks tasks.parquet --out fixed
  tfmeta data prepare --dataset synthetic --task-side item --out items   tasks are items: warm-up of new items

Settings of the split (--set, or a YAML file with --split): task_side (user, item), mode (random, temporal, explicit),
cold_user_share, cold_item_share, validation_user_share, validation_item_share, warm_test_user_share,
num_splits, validation_num_splits, query_size, min_interactions, max_interactions, cold_users, cold_items,
validation, tasks.
Settings of the generator: synthetic.users, synthetic.items, synthetic.rounded, ... Least counts of
vocabularies: vocabulary.min_count, vocabulary.multi_categorical_min_count, vocabulary.features.<feature>.

A MovieLens-1M source that has the MeLU partition is split by it unless 'mode' says otherwise. Paths may be
anything TensorFlow opens, such as gs://bucket/prepared."""

_ENRICH = "Add to every item what its content says of how people will rate it"
_ENRICH_EPILOG = """\
examples:
  tfmeta data enrich prepared --out enriched
  tfmeta data enrich prepared --out enriched --set factors=32 --set max_items=2000 --json
  tfmeta train --data enriched --out run

Settings (--set): name (of the feature, default content_profile), factors (predicted beside the item's bias),
max_items (items that predictions are made from; time grows with its cube), search_items (items that the features'
weights are chosen on), sweeps (of that choice), seed. The data needs ratings, users as tasks, and item features or
titles. Test tasks are not read. docs/content.md explains the method."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta data prepare` and `tfmeta data enrich`."""
    commands = parser.add_subparsers(dest="subcommand", metavar="{prepare,enrich}", required=True)
    prepare = commands.add_parser("prepare", help=HELP, description=HELP, epilog=_EPILOG,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.epilog = "'tfmeta data prepare --help' and 'tfmeta data enrich --help' explain the options."
    prepare.add_argument("--dataset", required=True, choices=_DATASETS, help="what to read, or synthetic")
    prepare.add_argument("--source", metavar="DIR", help="directory (csv and parquet: or file) with the raw data")
    prepare.add_argument("--schema", metavar="FILE", help="YAML: columns and features; required by csv and parquet")
    prepare.add_argument("--split", metavar="FILE", help="YAML: settings of the split")
    prepare.add_argument("--task-side", choices=("user", "item"),
                         help="what a task is: a user (default), or an item, for warming up new items")
    prepare.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                         help="one setting, such as cold_user_share=0.1; repeatable")
    prepare.add_argument("--cold-users", metavar="FILE", help="ids of the cold users (Parquet or CSV)")
    prepare.add_argument("--cold-items", metavar="FILE", help="ids of the cold items (Parquet or CSV)")
    prepare.add_argument("--tasks", metavar="FILE", help="test tasks: state, user_id, split, items (Parquet)")
    prepare.add_argument("--validation", metavar="FILE", help="ids to hold out as pseudo-cold: kind, id")
    prepare.add_argument("--no-validation", action="store_true",
                         help="hold nothing out for validation: the same test, for a refit on all other data")
    prepare.add_argument("--seed", type=int, metavar="N", help="seed of every draw (default 0)")
    prepare.add_argument("--download", action="store_true", help="fetch MovieLens into --source first")
    prepare.add_argument("--overwrite", action="store_true", help="replace --out where it exists")
    prepare.add_argument("--out", required=True, metavar="DIR", help="directory to create")
    enrich = commands.add_parser("enrich", help=_ENRICH, description=_ENRICH, epilog=_ENRICH_EPILOG,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    enrich.add_argument("prepared", metavar="PREPARED", help="prepared directory; it is not changed")
    enrich.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="one setting, such as factors=16; repeatable")
    enrich.add_argument("--overwrite", action="store_true", help="replace --out where it exists")
    enrich.add_argument("--out", required=True, metavar="DIR", help="directory to create")


def run(args: argparse.Namespace) -> int:
    """Prepares or enriches the data and prints a summary."""
    return {"prepare": _prepare, "enrich": _enrich}[args.subcommand](args)


def _enrich(args: argparse.Namespace) -> int:
    from tfmeta import config
    from tfmeta.content.content_profile_config import ContentProfileConfig
    from tfmeta.content.enrich import enrich
    from tfmeta.data.prepared_data import PreparedData

    settings = config.parse(ContentProfileConfig, config.apply_overrides({}, args.overrides))
    prepared = PreparedData(args.prepared)
    if sys.stderr.isatty() and not args.json:
        print(f"Comparing the content of {len(prepared.items):,} items, which takes seconds to minutes ...",
              file=sys.stderr, flush=True)
    enriched = enrich(prepared, out=args.out, config=settings, overwrite=args.overwrite)
    profile = enriched.summary["content_profile"]
    if args.json:
        print(json.dumps({"path": enriched.path, "training_fingerprint": enriched.training_fingerprint(), **profile},
                         ensure_ascii=False))
    else:
        weights = sorted(profile["weights"].items(), key=lambda pair: -pair[1])
        print(f"Enriched {prepared.path} in {enriched.path}: feature {settings.name} of {profile['width']} numbers, "
              f"{profile['seconds']:.1f} s\n"
              f"  explained   {profile['explained_bias']:.1%} of the variance of item biases, each item left out\n"
              f"  weights     {', '.join(f'{name} {weight:.3g}' for name, weight in weights)}")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from tfmeta import config
    from tfmeta.data.prepare_dataset import prepare_dataset
    from tfmeta.data.schema import Schema
    from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
    from tfmeta.data.vocabulary_config import VocabularyConfig

    values = _settings(args)
    synthetic = values.pop("synthetic", None)
    if args.dataset == "synthetic":
        synthetic = {**({} if args.seed is None else {"seed": args.seed}), **(synthetic or {})}
    vocabulary = config.parse(VocabularyConfig, values.pop("vocabulary", None), where="vocabulary")
    split = _split(args, values)
    prepared = prepare_dataset(
        dataset=args.dataset, out=args.out, source=args.source, split=split, vocabulary=vocabulary,
        schema=None if args.schema is None else Schema.from_yaml(args.schema),
        synthetic=None if synthetic is None else config.parse(SyntheticConfig, synthetic, where="synthetic"),
        download=args.download, overwrite=args.overwrite, progress=sys.stderr.isatty() and not args.json)
    if args.json:
        print(json.dumps({"path": prepared.path, "training_fingerprint": prepared.training_fingerprint(),
                          **prepared.summary}, ensure_ascii=False))
    else:
        print(describe(prepared.path, prepared.summary))
    return 0


def _settings(args: argparse.Namespace) -> dict:
    """Returns the settings of file, options and overrides; the later win."""
    from tfmeta import config
    from tfmeta.errors import ConfigError

    values = {} if args.split is None else config.load_yaml(args.split)
    files = {n: getattr(args, n) for n in ("cold_users", "cold_items", "tasks", "validation")}
    values |= {name: path for name, path in files.items() if path is not None}
    if args.seed is not None:
        values["seed"] = args.seed
    if args.task_side is not None:
        values["task_side"] = args.task_side
    if args.no_validation and args.validation is not None:
        raise ConfigError("--no-validation and --validation exclude each other.")
    return config.apply_overrides(values, args.overrides)


def _split(args: argparse.Namespace, values: dict):
    from tfmeta import config
    from tfmeta.data.prepare_dataset import default_split
    from tfmeta.data.split_config import SplitConfig

    if "mode" not in values and (values.get("cold_users") or values.get("cold_items") or values.get("tasks")):
        values["mode"] = "explicit"
    values = {**config.to_dict(default_split(args.dataset, args.source)), **values}
    split = config.parse(SplitConfig, values)
    return split.without_validation() if args.no_validation else split


def describe(path: str, summary: dict) -> str:
    """Returns the summary of a prepared directory for people."""
    read, rows, side = summary["read"], summary["rows"], summary["split"]["task_side"]
    synthetic = " (synthetic: generated, not observed)" if summary["dataset"] == "synthetic" else ""
    lines = [f"Prepared {summary['dataset']}{synthetic} in {path}: features {summary['features']}, "
             f"split {summary['split']['mode']}, tasks are {side}s, {sum(summary['seconds'].values()):.1f} s",
             f"  read        {read['read']:,} interactions: {read['kept']:,} kept, {read['duplicates']:,} duplicates, "
             f"{read['rejected']:,} rejected"]
    lines += [f"                {reason}: {count:,}" for reason, count in read["rejected_by_reason"].items()]
    for group in ("users", "items"):
        counts = summary[group]
        lines.append(f"  {group}       {counts['warm']:,} warm, {counts['validation']:,} validation, "
                     f"{counts['cold']:,} cold ({counts['without_interactions']:,} of them without interactions)")
    label = summary["label"]
    lines.append(f"  training    {rows['train']:,} interactions; {label['name']} {label['mean']:.3f} "
                 f"+- {label['std']:.3f}")
    for part in ("validation", "test"):
        tasks = summary["tasks"][part]
        text = ", ".join(f"{state} {c['tasks']:,} ({c[f'{side}s']:,} {side}s)" for state, c in tasks.items())
        lines.append(f"  {part:<11} {text or 'no tasks'}")
    unused = rows["unused"]
    lines.append(f"  unused      {sum(unused.values()):,} interactions" + (":" if unused else ""))
    lines += [f"                {reason}: {count:,}" for reason, count in unused.items()]
    return "\n".join(lines)
