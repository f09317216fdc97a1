"""The client on real exports: the same numbers as the graph gives for arrays made without the client."""

import asyncio

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["catalogue", "request"])
def real(request, tmp_path_factory, repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tests" / "export"))
        from export_cases import BOUND, Exported, make_items, make_recommender
        from request_helpers import make_request

        from export.exporter import export_model
        from tfmeta.serving import EmbeddedServer

        recommender, items = make_recommender("two_tower", "user_vector"), make_items()
        base = str(tmp_path_factory.mktemp("real") / "movies")
        path = export_model(recommender, items=items, model_base=base, item_features=request.param,
                            support_bound=BOUND, check=False)
        exported = Exported(path, request.param, recommender, items)
        with EmbeddedServer({"movies": base}, grpc_port=0, rest_port=0) as server:
            yield exported, server, make_request


def arguments(exported, inputs):
    """The arrays of a request as a caller has them: mappings and lists of different lengths."""
    spec, batch = exported.recommender.feature_spec, len(inputs["support_length"])
    features = (spec.item_id, *(spec.item_features if exported.mode == "request" else ()))

    def value(feature, array):
        if feature.kind == "multi_categorical":
            return [v.decode() for v in array.tolist() if v]
        plain = array.tolist()
        return plain.decode() if isinstance(plain, bytes) else plain

    def item(side, row, column):
        return {f.name: value(f, np.asarray(inputs[f"{side}_{f.name.replace('-', '_')}"][row, column], None))
                for f in features}

    users = [{f.name: value(f, np.asarray(inputs[f"user_{f.name.replace('-', '_')}"][row])) for f in spec.user_features}
             for row in range(batch)]
    supports = [[(item("support", row, s), float(inputs["support_label"][row, s]))
                 for s in range(inputs["support_length"][row])] for row in range(batch)]
    queries = [[item("query", row, q) for q in range(inputs["support_label"].shape[1] - 1)] for row in range(batch)]
    return {"user": users, "support": supports, "candidates": queries}


def test_client_and_graph_agree(real):
    from tfmeta.serving import AsyncClient, Client, RestClient

    exported, server, make_request = real
    inputs = make_request(exported, batch=7, width=6, query=5)
    given = arguments(exported, inputs)

    async def by_asyncio():
        async with AsyncClient(server.grpc_address, model="movies") as client:
            return await client.adapt_and_score(**given)

    with Client(server.grpc_address, model="movies") as client, RestClient(server.rest_address, model="movies") as rest:
        expected = client.predict("movies", inputs, signature="adapt_and_score")
        parts = client.options.replace(max_batch=3, max_candidates=2)
        with Client(server.grpc_address, model="movies", options=parts) as cut:
            answers = [client.adapt_and_score(**given), rest.adapt_and_score(**given), asyncio.run(by_asyncio()),
                       cut.adapt_and_score(**given)]
        for results in answers:
            for row, result in enumerate(results):
                np.testing.assert_allclose(result.scores, expected["scores"][row], rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(result.base_scores, expected["base_scores"][row], rtol=1e-5, atol=1e-6)
        states = client.adapt(user=given["user"], support=given["support"])
        kept = client.score_with_state(user=given["user"], state=states, candidates=given["candidates"])
        explained = client.explain(**given)
        for row in range(7):
            np.testing.assert_allclose(kept[row].scores, expected["scores"][row], rtol=1e-5, atol=1e-6)
            assert explained[row].influence.shape == (5, inputs["support_length"][row])
            assert np.isfinite(explained[row].influence).all()
        if exported.mode == "catalogue":
            lists = client.recommend(user=given["user"], support=given["support"], count=3)
            names = set(exported.items["item_id"])
            for row, found in enumerate(lists):
                rated = {i["movie_id"] for i, _ in given["support"][row]}
                assert set(found.items) <= names - rated and len(found.items) == 3
                again = client.adapt_and_score(user=given["user"][row], support=given["support"][row],
                                               candidates=found.items)
                np.testing.assert_allclose(again.scores, found.scores, rtol=1e-5, atol=1e-6)
