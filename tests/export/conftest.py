"""Every model and scope in both item modes, exported once per session."""

import concurrent.futures

import pytest
from export_cases import BOUND, COMBINATIONS, Exported, make_items, make_recommender


@pytest.fixture(scope="session")
def exports(_exports_and_reports) -> dict[tuple, Exported]:
    return _exports_and_reports[0]


@pytest.fixture(scope="session")
def reports(_exports_and_reports):
    """One second process verifies all of them; it starts as soon as they exist, while other tests run."""
    made, future = _exports_and_reports
    return dict(zip(made, future.result(), strict=True))


@pytest.fixture(scope="session")
def _exports_and_reports(tmp_path_factory):
    from export.exporter import export_model
    from export.verify import verify_many

    made = {}
    for model, scope, unit, mode in COMBINATIONS:
        recommender, items = make_recommender(model, scope, unit), make_items()
        base = tmp_path_factory.mktemp("models") / f"{model}_{scope}_{mode}"
        path = export_model(recommender, items=items, model_base=str(base), item_features=mode, support_bound=BOUND,
                            default_signature="adapt_and_score" if scope == "all" else "score", check=False)
        made[model, scope, unit, mode] = Exported(path, mode, recommender, items)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield made, pool.submit(verify_many, [e.path for e in made.values()])


@pytest.fixture(scope="session")
def servables(exports):
    """The exports under TensorFlow-1 sessions, as a server holds them."""
    from tfmeta.serving.servable import Servable

    return {key: Servable("m", 1, e.path) for key, e in exports.items()}
