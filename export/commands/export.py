"""`tfmeta export`: a run as a SavedModel for TensorFlow Serving."""

import argparse
import json

HELP = "Export a run as a verified SavedModel for TensorFlow Serving"

_EPILOG = """\
Writes MODEL_BASE/<version>/ after verifying it in a second process that cannot import tfmeta; a model that fails
leaves nothing behind. Servers that poll MODEL_BASE pick the new version up.

examples:
  tfmeta export --run runs/movies --out models/movies
  tfmeta export --run runs/movies --out models/movies --default-signature adapt_and_score
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
    parser.add_argument("--no-verify", action="store_true", help="skip verification")


def run(args: argparse.Namespace) -> int:
    from export.run_export import export_run

    path = export_run(args.run, model_base=args.out, data=args.data, version=args.version,
                      item_features=args.item_features, default_signature=args.default_signature,
                      layout=args.layout, support_bound=args.support_bound, check=not args.no_verify)
    if getattr(args, "json", False):
        print(json.dumps({"path": path, "verified": not args.no_verify}))
    else:
        print(f"Exported to {path}{'' if args.no_verify else ' (verified)'}")
    return 0
