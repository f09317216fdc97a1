"""`score_examples`: `score` on serialised tf.Example.

    inputs   examples [B] string: flat tf.Example, one list per input of `score`, named like it; lists and vectors
             row-major, one row after the other
    outputs  scores [B, Qmax] float32, query_length [B] int32: how many of them are the example's; status [B] int32

Status 8 says that a list's length did not fit the number of ids. See `ExampleParser` for what absent lists mean.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import score, status
from export.signatures.context import SignatureContext
from export.signatures.example_parser import ExampleParser, ParsedExamples


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {"examples": tf.TensorSpec([None], tf.string, name="examples")}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    run, parse = score.build(context), ExampleParser(context, support=False)

    def score_examples(inputs):
        parsed = parse(inputs["examples"])
        return with_lengths(run(parsed.inputs), parsed)

    return score_examples


def with_lengths(outputs: dict[str, tf.Tensor], parsed: ParsedExamples) -> dict[str, tf.Tensor]:
    """Adds `query_length`, and status 8 where lists do not fit each other."""
    misfit = tf.where(parsed.misfit, status.LENGTH_CLAMPED, 0)
    return {**outputs, "query_length": parsed.query_length,
            "status": tf.bitwise.bitwise_or(outputs["status"], misfit)}
