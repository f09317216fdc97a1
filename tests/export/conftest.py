"""Models and scopes in both item modes, each exported once per session, when a test first asks for it."""

import pytest
from export_cases import BOUND, FAST, Exported, make_items, make_recommender


class Lazy(dict):
    """Makes a value when it is first asked for; iterates over `keys` whether made or not."""

    def __init__(self, make, keys):
        super().__init__()
        self._make, self._keys = make, keys

    def __missing__(self, key):
        value = self[key] = self._make(key)
        return value

    def keys(self):
        return self._keys

    def values(self):
        return [self[key] for key in self._keys]

    def items(self):
        return [(key, self[key]) for key in self._keys]


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> dict[tuple, Exported]:
    from export.exporter import export_model

    def make(key):
        model, scope, unit, mode = key
        recommender, items = make_recommender(model, scope, unit), make_items()
        base = tmp_path_factory.mktemp("models") / f"{model}_{scope}_{mode}"
        path = export_model(recommender, items=items, model_base=str(base), item_features=mode, support_bound=BOUND,
                            default_signature="adapt_and_score" if scope == "all" else "score", check=False)
        return Exported(path, mode, recommender, items)

    return Lazy(make, FAST)


@pytest.fixture(scope="session")
def reports(exports):
    """What the second process says of them; one process verifies two of the fast ones."""
    from export.verify import verify_many

    def make(key):
        together = FAST[1:3] if key in FAST[1:3] else [key]
        reports = verify_many([exports[k].path for k in together])
        made.update(zip(together, reports, strict=True))
        return made[key]

    made = Lazy(make, FAST[1:3])
    return made


@pytest.fixture(scope="session")
def servables(exports):
    """The exports under TensorFlow-1 sessions, as a server holds them."""
    from tfmeta.serving.servable import Servable

    return Lazy(lambda key: Servable("m", 1, exports[key].path), FAST)
