"""TLS, bearer tokens, and who may bind what."""

import json
import ssl
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import trustme
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfmeta.errors import DataError, ServingError
from tfmeta.serving import EmbeddedServer, tensor_codec
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.lifecycle.exposure import is_loopback
from tfmeta.serving.lifecycle.tls_files import TlsFiles

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """Paths of the server's certificate and key, of the authority, and of a client's certificate and key."""
    folder = tmp_path_factory.mktemp("tls")
    server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("client@example.org")
    paths = {name: str(folder / f"{name}.pem") for name in ("cert", "key", "ca", "client_cert", "client_key")}
    server.cert_chain_pems[0].write_to_path(paths["cert"])
    server.private_key_pem.write_to_path(paths["key"])
    authority.cert_pem.write_to_path(paths["ca"])
    client.cert_chain_pems[0].write_to_path(paths["client_cert"])
    client.private_key_pem.write_to_path(paths["client_key"])
    return paths


@pytest.fixture(scope="module")
def base(write_version, tmp_path_factory):
    base = tmp_path_factory.mktemp("access")
    write_version(base, 1)
    return str(base)


@pytest.fixture(scope="module", params=[None, BatchingParameters(max_batch_size=4)], ids=["plain", "batching"])
def server(base, files, request):
    """Asks for TLS, a client certificate and a token, on an address that other machines reach."""
    tls = TlsFiles(files["cert"], files["key"], client_ca=files["ca"])
    with EmbeddedServer({"m": base}, grpc_port=0, rest_port=0, host="0.0.0.0", tls=tls,
                        token=BearerToken(TOKEN), batching=request.param) as server:
        yield server


def read(path):
    with open(path, "rb") as file:
        return file.read()


def channel(server, files, *, own=True):
    credentials = grpc.ssl_channel_credentials(
        read(files["ca"]), read(files["client_key"]) if own else None, read(files["client_cert"]) if own else None)
    return grpc.secure_channel(server.grpc_address.replace("0.0.0.0", "localhost"), credentials)


def predict(through, metadata=()):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensor_codec.encode(np.array([[5]]), request.inputs["item"])
    reply = prediction_service_pb2_grpc.PredictionServiceStub(through).Predict(request, timeout=10, metadata=metadata)
    return reply.outputs["scores"].float_val[0]


def test_grpc_with_everything(server, files):
    with channel(server, files) as through:
        assert predict(through, [("authorization", f"Bearer {TOKEN}")]) == 1005
        assert predict(through, [("authorization", f"bearer  {TOKEN} ")]) == 1005


@pytest.mark.parametrize("metadata", [(), [("authorization", f"Bearer {TOKEN}x")], [("authorization", TOKEN)],
                                      [("authorization", f"Basic {TOKEN}")], [("token", TOKEN)],
                                      [("authorization", "Bearer ")]])
def test_grpc_without_the_token(server, files, metadata):
    request = get_model_status_pb2.GetModelStatusRequest()
    with channel(server, files) as through:
        status = model_service_pb2_grpc.ModelServiceStub(through).GetModelStatus
        for call in (lambda: predict(through, metadata), lambda: status(request, timeout=10, metadata=metadata)):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code().name == "UNAUTHENTICATED"
            assert caught.value.details() == "The call requires the metadata 'authorization: Bearer TOKEN'"


def test_grpc_without_certificate_or_tls(server, files):
    port = server.grpc_address.rpartition(":")[2]
    metadata = [("authorization", f"Bearer {TOKEN}")]
    for through in (channel(server, files, own=False), grpc.insecure_channel(f"localhost:{port}")):
        with through, pytest.raises(grpc.RpcError) as caught:
            predict(through, metadata)
        assert caught.value.code().name == "UNAVAILABLE"


def test_rest(server, files):
    context = ssl.create_default_context(cafile=files["ca"])
    url = f"https://localhost:{server.rest_address.rpartition(':')[2]}/v1/models/m"
    request = urllib.request.Request(f"{url}:predict", data=json.dumps({"instances": [[5]]}).encode(),
                                     headers={"Authorization": f"Bearer {TOKEN}"})
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):  # No certificate of the client.
        urllib.request.urlopen(request, context=context, timeout=10)
    context.load_cert_chain(files["client_cert"], files["client_key"])
    with urllib.request.urlopen(request, context=context, timeout=10) as reply:
        assert json.loads(reply.read()) == {"predictions": [[1005.0]]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, context=context, timeout=10)
    assert caught.value.code == 401 and caught.value.headers["WWW-Authenticate"] == "Bearer"


def test_hosts():
    assert [is_loopback(h) for h in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(h) for h in ("0.0.0.0", "::", "192.168.0.3", "db.example.org", "")] == [False] * 5


@pytest.mark.parametrize(("options", "message"), [
    ({}, r"TLS \(--tls-cert, --tls-key\) and a bearer token \(--token-file\)"),
    ({"token": BearerToken(TOKEN)}, r"requires TLS \(--tls-cert, --tls-key\)\. Bind 127.0.0.1"),
    ({"tls": TlsFiles("a", "b")}, r"requires a bearer token \(--token-file\)\. Bind"),
])
def test_other_machines_require_tls_and_token(options, message):
    with pytest.raises(ServingError, match=message):
        EmbeddedServer({"m": "x"}, host="0.0.0.0", **options)
    EmbeddedServer({"m": "x"}, host="0.0.0.0", insecure=True, **options)


def test_tokens(tmp_path):
    for token in ("", "short", "0123456789abcdef with space", "0123456789abcdef\u00e9"):
        with pytest.raises(ServingError, match="at least 16 visible") as caught:
            BearerToken(token)
        assert not token or token not in str(caught.value)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert BearerToken.read(str(file)).accepts(f"Bearer {TOKEN}")
    assert not BearerToken.read(str(file)).accepts(None) and not BearerToken.read(str(file)).accepts("Bearer \u00e9")
    for content, message in ((b"", "Token file .* at least 16"), (b"\xff\xfe\xfd", "other bytes")):
        file.write_bytes(content)
        with pytest.raises(ServingError, match=message):
            BearerToken.read(str(file))
    with pytest.raises(DataError, match="does not exist"):
        BearerToken.read(str(tmp_path / "nowhere"))
    assert TOKEN not in repr(BearerToken(TOKEN))


def test_wrong_tls_files(files, tmp_path, base):
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for tls, message in ((TlsFiles(files["cert"], str(tmp_path / "none")), "TLS requires a PEM certificate"),
                         (TlsFiles(str(junk), files["key"]), "TLS requires a PEM certificate"),
                         (TlsFiles(files["cert"], files["client_key"]), "KEY_VALUES_MISMATCH"),
                         (TlsFiles(files["cert"], files["key"], str(junk)), "client authorities")):
        with pytest.raises(ServingError, match=message):
            EmbeddedServer({"m": base}, grpc_port=0, tls=tls).start()
