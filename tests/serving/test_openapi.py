"""The description of the REST port fits what it answers."""

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi import checks

from tfmeta.serving import openapi
from tfmeta.serving.server import EmbeddedServer

# Not checked: other methods are answered with 400, as by the stock server; and which inputs a signature has is the
# model's to say, so a body that fits the description may still be refused.
CHECKS = [schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
          checks.response_headers_conformance, checks.response_schema_conformance]
schema = schemathesis.openapi.from_dict(openapi.document())


@pytest.fixture(scope="module")
def url(small_model_base):
    with EmbeddedServer({"small": small_model_base}, grpc_port=0, rest_port=0) as server:
        yield f"http://{server.rest_address}"


def check(case, url):
    # Most names would be of no model.
    if len(str((case.path_parameters or {}).get("model", ""))) % 4:
        case.path_parameters = {**case.path_parameters, "model": "small"}
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)


@schema.parametrize()
@hypothesis.settings(max_examples=10, deadline=None)
def test_answers_are_as_described(case, url):
    check(case, url)


@pytest.mark.slow
@schema.parametrize()
@hypothesis.settings(max_examples=150, deadline=None)
def test_many_answers_are_as_described(case, url):
    check(case, url)


@pytest.mark.parametrize("body", [
    {"instances": [{"query_item_id": ["1"]}]}, {"instances": [["1"], ["2"]]}, {"inputs": [["1"]]},
    {"inputs": {"query_item_id": [["1"]]}, "signature_name": "score"}])
def test_good_requests_fit_the_description(url, body):
    case = schema["/v1/models/{model}:predict"]["POST"].Case(
        path_parameters={"model": "small"}, body=body, media_type="application/json")
    response = case.call_and_validate(base_url=url, checks=[*CHECKS, checks.positive_data_acceptance], timeout=30)
    assert response.status_code == 200
