"""One file per signature: `input_specs(context)` and `build(context) -> function(inputs) -> outputs`.

A new signature is one file and one line in `SIGNATURES`.
"""

# Signature key -> module. `serving_default` is one of these under a second name.
SIGNATURES = {
    "score": "export.signatures.score",
    "adapt_and_score": "export.signatures.adapt_and_score",
}
DEFAULT_SIGNATURES = ("score", "adapt_and_score")
ITEM_FEATURES = ("catalogue", "request")
