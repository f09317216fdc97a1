"""Names of states, metrics and models as people read them."""

_STATES = {"warm": "warm", "user_cold": "user-cold", "item_cold": "item-cold", "both_cold": "both-cold"}
_METRICS = {"auc": "AUC", "mae": "MAE", "rmse": "RMSE", "mrr": "MRR", "logloss": "log loss",
            "accuracy": "accuracy", "mae_median": "MAE of the median", "rmse_pooled": "RMSE, pooled", "loss": "Loss"}
_MODELS = {"random": "random scores", "perfect_order": "perfect order", "item_knn": "item-kNN",
           "als_fold_in": "ALS fold-in", "als_implicit": "ALS, implicit", "item_knn_implicit": "item-kNN, implicit",
           "two_tower_tfrs": "two-tower (TFRS)", "maml": "MAML",
           "first_order_maml": "MAML, first order", "maml_plus_plus": "MAML++", "anil": "ANIL",
           "boil": "BOIL", "meta_sgd": "Meta-SGD", "cavia": "CAVIA", "tanp": "TaNP", "lwa": "LWA", "nlba": "NLBA",
           "mamo": "MAMO", "meta_emb": "MetaEmb", "mwuf": "MWUF", "dropout_net": "DropoutNet", "reptile": "Reptile",
           "synthetic_oracle": "noise-free ratings", "synthetic_fold_in": "best attainable"}


def listed(names: list[str]) -> str:
    """`["a", "b", "c"]` -> `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def state_name(state: str) -> str:
    return _STATES.get(state, state.replace("_", "-"))


def metric_name(metric: str) -> str:
    """`ndcg_linear@5` -> `NDCG@5, linear gain`; unknown names come back with spaces for underscores."""
    name, at, k = metric.partition("@")
    if name == "ndcg_linear":
        return f"NDCG{at}{k}, linear gain"
    if name == "ndcg":
        return f"NDCG{at}{k}"
    return _METRICS.get(name, name.replace("_", " ").replace(".", " ")) + at + k


def model_name(model: str) -> str:
    """`maml_user_vector` -> `MAML, user vector`: algorithm and scope."""
    if model not in _MODELS and model.startswith("maml_"):
        return f"MAML, {model.removeprefix('maml_').replace('_', ' ')}"
    return _MODELS.get(model, model.replace("_", " "))
