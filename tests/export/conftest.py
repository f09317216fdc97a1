"""Every model and scope in both item modes, exported once per session."""

import pytest
from export_cases import BOUND, COMBINATIONS, Exported, make_items, make_recommender


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> dict[tuple, Exported]:
    from export.exporter import export_model

    made = {}
    for model, scope, unit, mode in COMBINATIONS:
        recommender, items = make_recommender(model, scope, unit), make_items()
        base = tmp_path_factory.mktemp("models") / f"{model}_{scope}_{mode}"
        path = export_model(recommender, items=items, model_base=str(base), item_features=mode, support_bound=BOUND,
                            default_signature="adapt_and_score" if scope == "all" else "score", check=False)
        made[model, scope, unit, mode] = Exported(path, mode, recommender, items)
    return made


@pytest.fixture(scope="session")
def reports(exports):
    """One second process verifies all of them."""
    from export.verify import verify_many

    return dict(zip(exports, verify_many([e.path for e in exports.values()]), strict=True))


@pytest.fixture(scope="session")
def servables(exports):
    """The exports under TensorFlow-1 sessions, as a server holds them."""
    from tfmeta.serving.servable import Servable

    return {key: Servable("m", 1, e.path) for key, e in exports.items()}
