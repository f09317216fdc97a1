"""Adaptation of the amortised learners by hand in NumPy: what `LWA.adapt`, `TaNP.adapt` and `SetEncoder.adapt` compute.

`by_hand(learner)` reads a learner's weights once and returns a function of encoded support sets, float32 arrays, that
gives the learner's fast weights. Written for the learners' default settings on ratings and a two-tower model whose user
vectors adapt; of other settings the result differs from the graph's, which `benchmarks.closed_form` checks.

What the graph computes is computed here: padded rows too, every product, normalisation and mask. Kernels that multiply
the same rows lie side by side, rows of all users are multiplied at once, what is the same in every round is computed
once, and large arrays are changed in place.
"""

from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
# Users `[B, P]`, items `[B, S, P]`, targets `[B, S]` and lengths `[B]` -> fast weights.
Adapt = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Arrays]


def by_hand(learner) -> Adapt:
    """Returns a learner's `adapt` in NumPy.

    Args:
      learner: `lwa`, `tanp` or `set_encoder`, as `build` of `benchmarks.closed_form` makes it.
    """
    return {"lwa": lwa, "tanp": tanp, "set_encoder": set_encoder}[learner.name](learner)


def lwa(learner) -> Adapt:
    """Linear weight adaptation: fast weights `weights [B, P]` and `bias [B, 1]`."""
    w = _weights(learner)
    factors, bias_factors = w["lwa/class_factors"], w["lwa/class_bias"]
    shrinkage = np.exp(w["class_means/log_shrinkage"])
    boundaries = np.array(learner.means._boundaries, np.float32)

    def adapt(user, item, target, length):
        mask = _mask(target, length)
        number = np.where(mask, (target[..., None] >= boundaries).sum(-1), -1)
        member = (np.arange(len(factors))[:, None] == number[:, None, :]).astype(np.float32)
        count = member.sum(-1)
        means = member @ item
        means[..., -1] = count  # the features have a one in the place of the item's bias
        means *= _damping(count, shrinkage[:-1])[..., None]
        means *= factors
        shares = count * _damping(length.astype(np.float32), shrinkage[-1])[:, None]
        return {"weights": user + means.sum(1), "bias": (shares @ bias_factors)[:, None]}

    return adapt


def tanp(learner) -> Adapt:
    """Task-adaptive neural process: fast weights `latent [B, Z]`, `film_scale [B, F]` and `film_shift [B, F]`."""
    w = _weights(learner)
    pool, offset, alpha = w["tanp/pool"], w["two_tower/offset"], learner.get_config()["alpha"]
    item_norm, shrinkage = _norm(w, "tanp_item_norm"), np.exp(w["tanp/log_shrinkage"])
    # The first layers of encoder and identity side by side; each last layer, linear, reads its half of the
    # hidden rows' sums.
    first, last = zip(*(_dense(w, f"tanp_{part}", 2) for part in ("encoder", "identity")), strict=True)
    kernel, bias = (np.concatenate(values, axis=-1) for values in zip(*first, strict=True))
    of_user, of_row = np.split(kernel, [len(kernel) - 2 * len(item_norm[0]) - 2])
    (hidden_layer,), (mean_layer,), (film_layer,) = (
        _dense(w, f"tanp_{part}", 1) for part in ("latent_hidden", "latent_mean", "film"))

    def adapt(user, item, target, length):
        hidden = _product(inputs(user, item, target), of_row)
        hidden += (user @ of_user + bias)[:, None, :]
        np.maximum(hidden, 0, out=hidden)
        mask, count = _mask(target, length).astype(np.float32)[:, None, :], length.astype(np.float32)
        encoded, task = (
            ((mask @ half)[:, 0] @ layer[0] + count[:, None] * layer[1]) * _damping(count, tau)[:, None]
            for half, layer, tau in zip(np.split(hidden, 2, axis=-1), last, shrinkage, strict=True))
        latent = np.maximum(_linear(encoded, hidden_layer), 0)
        return {"latent": _linear(latent, mean_layer), **film(task)}

    def inputs(user, item, target):
        """Returns [v_j, y_j, e_j, e_j v_j] of all rows."""
        width = item.shape[-1]
        values = np.empty((*target.shape, 2 * width + 2), np.float32)
        normed = values[..., :width] = _normalise(item, item_norm)
        values[..., width] = target
        excess = np.subtract(target, _two_tower(user[:, :-1], user[:, -1:], item, offset), out=values[..., width + 1])
        np.multiply(excess[..., None], normed, out=values[..., width + 2:])
        return values

    def film(task):
        distance = np.square(task[:, None, :] - pool).sum(-1)
        assignment = _softmax(-0.5 * (alpha + 1) * np.log1p(distance / alpha))
        scale, shift, gate, common = np.split(_linear(task + assignment @ pool, film_layer), 4, axis=-1)
        gate = 1 / (1 + np.exp(-gate))
        rest = (1 - gate) * np.tanh(common)
        return {"film_scale": 1 + (gate * np.tanh(scale) + rest), "film_shift": gate * np.tanh(shift) + rest}

    return adapt


def set_encoder(learner) -> Adapt:
    """Set transformer: fast weights `user_vector [B, P - 1]` and `user_bias [B, 1]`."""
    w, config = _weights(learner), learner.get_config()
    offset, shrinkage, seed_row = (
        w["two_tower/offset"], np.exp(w["set_encoder/log_shrinkage"]), w["set_encoder/seed_row"][None])
    read_out = w["set_encoder/read_out_kernel"], w["set_encoder/read_out_bias"]
    preconditioner, item_norm = w["set_encoder/preconditioner"].T, _norm(w, "set_encoder_item_norm")
    encoder, pooling = (_attention_block(w, f"set_encoder_{part}", heads=config["heads"])
                        for part in ("encoder_0", "pooling"))
    ((kernel, bias),), width = _dense(w, "set_encoder_embed", 1), len(item_norm[0])
    of_user, of_item, of_target, of_excess, of_pull = np.split(
        kernel, np.cumsum([len(kernel) - 2 * width - 2, width, 1, 1]))

    def adapt(user, item, target, length):
        mask, count = _mask(target, length), length.astype(np.float32)
        trust = (count / (count + shrinkage))[:, None]
        weight = np.where(mask, 2 / np.maximum(count, 1)[:, None], np.float32(0))
        unread = np.where(mask, np.float32(0), np.float32(-1e9))[:, None, None, :]
        normed = _normalise(item, item_norm)
        same = _product(normed, of_item)
        same += (user @ of_user + bias)[:, None, :]
        same += target[..., None] * of_target
        vector, user_bias = user[:, :-1], user[:, -1:]
        for _ in range(config["rounds"]):
            excess = target - _two_tower(vector, user_bias, item, offset)
            rows = _product(excess[..., None] * normed, of_pull)
            rows += excess[..., None] * of_excess
            rows += same
            change = _linear(pooling(seed_row, encoder(rows, rows, unread), unread)[:, 0], read_out)
            change += descent(weight * excess, item) @ preconditioner
            change *= trust
            vector, user_bias = vector + change[:, :-1], user_bias + change[:, -1:]
        return {"user_vector": vector, "user_bias": user_bias}

    def descent(pull, item):
        """Returns the negative gradient of the mean squared error by the user's vector and bias, `[B, P]`."""
        return np.concatenate([(pull[:, None, :] @ item[..., :-1])[:, 0], pull.sum(1, keepdims=True)], axis=1)

    return adapt


def _attention_block(w: Arrays, name: str, *, heads: int):
    """Returns MAB: rows `[B or 1, N, units]`, source `[B, M, units]`, what to add to logits -> `[B, N, units]`."""
    def projection(*parts):
        return tuple(np.concatenate(values, axis=-1) for values in zip(*(
            (w[f"{name}_attention/{part}/kernel"].reshape(units, units),
             w[f"{name}_attention/{part}/bias"].reshape(units)) for part in parts), strict=True))

    units = len(w[f"{name}_hidden/bias"])
    query, key_value, all_three = projection("query"), projection("key", "value"), projection("query", "key", "value")
    out = (w[f"{name}_attention/attention_output/kernel"].reshape(units, units),
           w[f"{name}_attention/attention_output/bias"])
    hidden_layer, last = ((w[f"{name}_{part}/kernel"], w[f"{name}_{part}/bias"]) for part in ("hidden", "output"))
    norms, scale = [_norm(w, f"{name}_norm_{i}") for i in range(2)], np.float32((units // heads) ** -0.5)

    def by_head(projected, count):
        """`[B, N, count * units]` -> count times `[B, heads, N, units / heads]`."""
        return projected.reshape(*projected.shape[:2], count, heads, -1).transpose(2, 0, 3, 1, 4)

    def block(rows, source, unread):
        if rows is source:
            q, k, v = by_head(_linear(rows, all_three), 3)
        else:
            (q,), (k, v) = by_head(_linear(rows, query), 1), by_head(_linear(source, key_value), 2)
        logits = q @ k.swapaxes(-1, -2)
        logits *= scale
        logits += unread
        read = (_softmax(logits) @ v).swapaxes(1, 2).reshape(len(source), -1, units)
        attended = _linear(read, out)
        attended += rows
        attended = _normalise(attended, norms[0])
        hidden = _linear(attended, hidden_layer)
        np.maximum(hidden, 0, out=hidden)
        result = _linear(hidden, last)
        result += attended
        return _normalise(result, norms[1])

    return block


def _weights(learner) -> Arrays:
    return {variable.path: np.array(variable) for variable in learner.trainable_variables}


def _dense(w: Arrays, name: str, layers: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [tuple(w[f"{name}/{name}_{layer}_{part}"] for part in ("kernel", "bias")) for layer in range(layers)]


def _norm(w: Arrays, name: str) -> tuple[np.ndarray, np.ndarray]:
    return w[f"{name}/gamma"], w[f"{name}/beta"]


def _mask(target, length) -> np.ndarray:
    return np.arange(target.shape[1]) < length[:, None]


def _damping(count, shrinkage) -> np.ndarray:
    """1 / (count + shrinkage), 0 where the count is 0."""
    return np.where(count > 0, 1 / (count + shrinkage), np.float32(0))


def _two_tower(vector, bias, item, offset) -> np.ndarray:
    """u . v_i + c_u + c_i + c for `[B, P - 1]`, `[B, 1]` and items `[B, S, P]`: `[B, S]`."""
    output = (item[..., :-1] @ vector[..., None])[..., 0]
    output += item[..., -1]
    output += bias + offset
    return output


def _product(rows, kernel) -> np.ndarray:
    """`[..., in]` times `[in, out]`, as one product."""
    return (rows.reshape(-1, rows.shape[-1]) @ kernel).reshape(*rows.shape[:-1], -1)


def _linear(rows, layer) -> np.ndarray:
    product = _product(rows, layer[0])
    product += layer[1]
    return product


def _normalise(rows, norm) -> np.ndarray:
    """Layer normalisation over the last axis."""
    flat = rows.reshape(-1, rows.shape[-1])
    mean = np.full(rows.shape[-1], 1 / rows.shape[-1], np.float32)  # A product with it is faster than `np.mean`.
    centred = flat - (flat @ mean)[:, None]
    scale = np.einsum("ij,ij->i", centred, centred)
    scale /= rows.shape[-1]
    scale += np.float32(1e-3)
    np.reciprocal(np.sqrt(scale, out=scale), out=scale)
    centred *= scale[:, None]
    centred *= norm[0]
    centred += norm[1]
    return centred.reshape(rows.shape)


def _softmax(logits) -> np.ndarray:
    """Over the last axis, in place."""
    logits -= logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    flat = logits.reshape(-1, logits.shape[-1])
    flat *= (1 / (flat @ np.ones(flat.shape[-1], np.float32)))[:, None]
    return logits
