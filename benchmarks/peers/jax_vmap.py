"""W1 in JAX: vmap over the tasks, grad through the inner steps, one fused table, the whole outer step under jit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.worker import arguments, serve


def forward(dense, x):
    """Rows `[N, 256]` -> outputs `[N]`."""
    for kernel, bias in dense[:-1]:
        x = jax.nn.relu(x @ kernel + bias)
    kernel, bias = dense[-1]
    return (x @ kernel + bias)[:, 0]


def squared_error(dense, x, label):
    return jnp.mean(jnp.square(forward(dense, x) - label))


def task_loss(table, dense, task, *, rate, inner_steps, order):
    """The outer loss of one task."""
    user = table[task["user"]].reshape(-1)

    def rows(items):
        item = table[items].reshape(items.shape[0], -1)
        return jnp.concatenate([jnp.broadcast_to(user, (items.shape[0], user.shape[0])), item], axis=1)

    support, query = rows(task["support_item"]), rows(task["query_item"])
    for _ in range(inner_steps):
        gradient = jax.grad(squared_error)(dense, support, task["support_label"])
        if order == 1:
            gradient = jax.lax.stop_gradient(gradient)
        dense = jax.tree.map(lambda w, g: w - rate * g, dense, gradient)
    return squared_error(dense, query, task["query_label"])


def adam(parameters, gradients, state, rate):
    """Kingma and Ba, 2015, with Keras's placing of epsilon."""
    mean, square, count = state
    count = count + 1
    mean = jax.tree.map(lambda m, g: m + (g - m) * 0.1, mean, gradients)
    square = jax.tree.map(lambda v, g: v + (g * g - v) * 0.001, square, gradients)
    alpha = rate * jnp.sqrt(1 - 0.999 ** count) / (1 - 0.9 ** count)
    parameters = jax.tree.map(lambda p, m, v: p - alpha * m / (jnp.sqrt(v) + 1e-7), parameters, mean, square)
    return parameters, (mean, square, count)


def main() -> None:
    args = arguments()
    arrays = dict(np.load(args.arrays))
    layers = sum(name.startswith("kernel_") for name in arrays)
    parameters = (jnp.asarray(arrays["table"]), [(jnp.asarray(arrays[f"kernel_{i}"]), jnp.asarray(arrays[f"bias_{i}"]))
                                                 for i in range(layers)])
    inner_rate, outer_rate = float(arrays["inner_rate"]), float(arrays["outer_rate"])
    names = ("user", "support_item", "query_item", "support_label", "query_label")
    batches = [{name: jnp.asarray(arrays[name][k]) for name in names} for k in range(len(arrays["user"]))]

    @partial(jax.jit, donate_argnums=(0, 1))
    def outer_step(parameters, state, batch):
        def mean_loss(parameters):
            one = partial(task_loss, *parameters, rate=inner_rate, inner_steps=args.inner_steps, order=args.order)
            return jnp.mean(jax.vmap(one)(batch))

        loss, gradients = jax.value_and_grad(mean_loss)(parameters)
        parameters, state = adam(parameters, gradients, state, outer_rate)
        return parameters, state, loss

    state = (jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(()))
    compiled = outer_step.lower(parameters, state, batches[0]).compile()
    held = [parameters, state]

    def step(number):
        held[0], held[1], loss = compiled(held[0], held[1], batches[number % len(batches)])
        return loss

    serve(step, loss=float, wait=lambda value: value.block_until_ready(),
          versions={"jax": jax.__version__, "jaxlib": jax.lib.__version__, "numpy": np.__version__})


if __name__ == "__main__":
    main()
