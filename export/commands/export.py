"""`tfmeta export`: a run as a SavedModel for TensorFlow Serving."""

import argparse
import json
import sys

HELP = "Export a run as a verified SavedModel for TensorFlow Serving"

_EPILOG = """\
Writes MODEL_BASE/<version>/ after verifying it in a second process that cannot import tfmeta; a model that fails
leaves nothing behind. Servers that poll MODEL_BASE pick the new version up.

--gate exports only a run whose evaluation shows, in every state, that adapting is better than not adapting and better
than the bias baseline (AUC, NDCG@5 and MAE, as far as the label has them). --compatible-with refuses a model that would
break the clients of an earlier version.

--items replaces the catalogue (new items, new features of known ones) without training again; its item embeddings lie
in the model's assets.extra/item_embeddings.parquet unless --item-embeddings says otherwise. Models whose scores are one
product with the table of items find the best of it (recommend, adapt_and_recommend); --retrieval exact has every other
model score its whole catalogue for each request.

examples:
  tfmeta export --run runs/movies --out models/movies
  tfmeta export --run runs/movies --out models/movies --gate --compatible-with models/movies/3
  tfmeta export --run runs/movies --out models/movies --default-signature adapt_and_score
  tfmeta export --run runs/movies --out models/movies --items items-of-today.parquet
  tfmeta export --run runs/movies --out models/movies --top-k 20 --diversity 0.3 --item-embeddings vectors.parquet
  tfmeta export --run runs/movies --out "$AIP_MODEL_DIR" --layout flat --item-features request
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--run", required=True, metavar="RUN", help="a complete training run")
    parser.add_argument("--out", required=True, metavar="MODEL_BASE",
                        help="base path of the model's versions (any file system)")
    parser.add_argument("--data", metavar="DIR", help="the run's prepared directory, if it has moved")
    parser.add_argument("--version", type=int, metavar="N", help="version number (default: one after the highest)")
    parser.add_argument("--item-features", choices=("catalogue", "request"), default="catalogue",
                        help="keep encoded items in the graph, or take item features from each request")
    parser.add_argument("--default-signature", choices=("score", "adapt_and_score"), default="score",
                        help="what serving_default is")
    parser.add_argument("--layout", choices=("versioned", "flat"), default="versioned",
                        help="flat writes the model into MODEL_BASE itself (Vertex AI, TFX)")
    parser.add_argument("--support-bound", type=int, default=100, metavar="N",
                        help="interactions of a request that are used, the last ones (default 100)")
    parser.add_argument("--items", metavar="FILE.parquet",
                        help="catalogue to export instead of the prepared directory's: item_id and the item features")
    parser.add_argument("--item-embeddings", metavar="FILE.parquet",
                        help="also write item_id, embedding and bias of every item, for an index elsewhere")
    parser.add_argument("--retrieval", choices=("auto", "exact", "none"), default="auto",
                        help="lists from the whole catalogue: where they are cheap, for every model, or not at all")
    parser.add_argument("--top-k", type=int, default=100, metavar="K", help="length of these lists (default 100)")
    parser.add_argument("--diversity", type=float, default=0.0, metavar="W",
                        help="weight of diversity in these lists, 0 (default) to 1")
    parser.add_argument("--gate", action="store_true",
                        help="refuse a run that adaptation does not improve, or that the bias baseline equals")
    parser.add_argument("--compatible-with", metavar="MODEL_BASE/N",
                        help="refuse a model that would break the clients of this one (any SavedModel)")
    parser.add_argument("--allow-breaking", action="store_true",
                        help="with --compatible-with: export nevertheless, and say what breaks")
    parser.add_argument("--batching-parameters", metavar="FILE",
                        help="the server's batching_parameters.txt: each signature is warmed up at its batch sizes "
                             "(default: those of serving_config)")
    parser.add_argument("--no-verify", action="store_true", help="skip verification")


def run(args: argparse.Namespace) -> int:
    from tfmeta.errors import ConfigError

    if args.allow_breaking and not args.compatible_with:
        raise ConfigError("--allow-breaking requires --compatible-with: the model whose clients may break.")
    from export.compatibility import breaking_changes
    from export.interface import Interface
    from export.run_export import export_run

    sizes = _batch_sizes(args.batching_parameters) if args.batching_parameters else {}
    before = Interface.read(args.compatible_with) if args.compatible_with else None
    path = export_run(args.run, model_base=args.out, data=args.data, version=args.version, gated=args.gate,
                      item_features=args.item_features, default_signature=args.default_signature,
                      layout=args.layout, support_bound=args.support_bound, check=not args.no_verify,
                      items=args.items, item_embeddings=args.item_embeddings, retrieval=args.retrieval,
                      top_k=args.top_k, diversity=args.diversity,
                      compatible_with=None if args.allow_breaking else args.compatible_with, **sizes)
    changes = breaking_changes(before, Interface.read(path)) if before else []
    if getattr(args, "json", False):
        print(json.dumps({"path": path, "verified": not args.no_verify, "gate_passed": True if args.gate else None,
                          "breaking_changes": changes if before else None}))
    else:
        done = {"verified": not args.no_verify, "gate passed": args.gate}
        said = ", ".join(text for text, given in done.items() if given)
        print(f"Exported to {path}{f' ({said})' if said else ''}")
    for line in changes:
        print(f"tfmeta: breaks clients of '{before.path}': {line}", file=sys.stderr)
    return 0


def _batch_sizes(path: str) -> dict[str, tuple[int, ...]]:
    from tfmeta.serving.batching.batching_parameters import BatchingParameters

    parameters = BatchingParameters.read(path)
    # Without a list every size may occur: the two ends of what may.
    return {"batch_sizes": parameters.allowed_batch_sizes or tuple(sorted({1, parameters.max_batch_size}))}
