"""Keras optimizers for gradients that are sums over all replicas already."""


class SummedGradients:
    """Mixed into a Keras optimizer, keeps it from summing gradients over replicas.

    Under `tf.distribute` Keras's optimizers add up the gradients of all replicas inside `apply`. The outer step needs
    the sum before that, for its norm and to see whether it is finite, and a second one would multiply it by their
    number.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


def with_summed_gradients(optimizer_class: type) -> type:
    """Returns the class with `SummedGradients`; the name stays."""
    return type(optimizer_class.__name__, (SummedGradients, optimizer_class), {})
