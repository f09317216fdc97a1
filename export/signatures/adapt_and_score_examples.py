"""`adapt_and_score_examples`: `adapt_and_score` on serialised tf.Example.

    inputs   examples [B] string: flat tf.Example, one list per input of `adapt_and_score` but `support_length`, which
             is that of the lists; the support oldest first
    outputs  scores [B, Qmax] float32, base_scores [B, Qmax] float32, query_length [B] int32: how many of them are the
             example's; status [B] int32

Otherwise as `score_examples`.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import adapt_and_score
from export.signatures.context import SignatureContext
from export.signatures.example_parser import ExampleParser
from export.signatures.score_examples import input_specs, with_lengths

__all__ = ["build", "input_specs"]


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    run, parse = adapt_and_score.build(context), ExampleParser(context, support=True)

    def adapt_and_score_examples(inputs):
        parsed = parse(inputs["examples"])
        return with_lengths(run(parsed.inputs), parsed)

    return adapt_and_score_examples
