"""One file per signature: `input_specs(context)` and `build(context) -> function(inputs) -> outputs`.

A new signature is one file, one line in `SIGNATURES` and a module of the same name in `export.golden_cases`. A module
may have `available(context) -> bool` for a signature that only some models have, and `client_shapes(context)` where a
client sends less than the graph takes.
"""

# Signature key -> module. `serving_default` is one of these under a second name.
SIGNATURES = {
    "score": "export.signatures.score",
    "adapt_and_score": "export.signatures.adapt_and_score",
    "adapt": "export.signatures.adapt",
    "score_with_state": "export.signatures.score_with_state",
    "embed_items": "export.signatures.embed_items",
    "recommend": "export.signatures.recommend",
    "adapt_and_recommend": "export.signatures.adapt_and_recommend",
    "explain": "export.signatures.explain",
    "score_examples": "export.signatures.score_examples",
    "adapt_and_score_examples": "export.signatures.adapt_and_score_examples",
    "metadata": "export.signatures.metadata",
}
DEFAULT_SIGNATURES = ("score", "adapt_and_score")
ITEM_FEATURES = ("catalogue", "request")
