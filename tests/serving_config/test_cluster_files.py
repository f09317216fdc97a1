"""Kubernetes, Kustomize and KServe manifests.

Validated by the API's own schema, as the models of the package `kubernetes` have it (skipped where it is not
installed): everything in kubernetes/. Structurally, since no installed package carries their schemas:
kustomization.yaml and the KServe InferenceService.
"""

import re

import pytest
from config_files import FOLDER, IMAGE, METRICS_PATH, document, documents, flags

MANIFESTS = sorted(p.name for p in (FOLDER / "kubernetes").glob("*.yaml"))
MODELS = {("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim", ("v1", "Service"): "V1Service",
          ("apps/v1", "Deployment"): "V1Deployment", ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
          ("autoscaling/v2", "HorizontalPodAutoscaler"): "V2HorizontalPodAutoscaler"}


def objects():
    return [d for name in MANIFESTS for d in documents(f"kubernetes/{name}")]


def one(kind, name="recommender"):
    (found,) = [d for d in objects() if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def container():
    (only,) = one("Deployment")["spec"]["template"]["spec"]["containers"]
    return only


def unknown_fields(client, value, kind, where=""):
    """Yields the fields that a type of the API does not have, at any depth."""
    if kind.startswith("list["):
        for i, entry in enumerate(value):
            yield from unknown_fields(client, entry, kind[5:-1], f"{where}[{i}]")
    elif kind.startswith("dict("):
        for key, entry in value.items():
            yield from unknown_fields(client, entry, kind[5:-1].split(", ", 1)[1], f"{where}.{key}")
    elif hasattr(client, kind) and hasattr(getattr(client, kind), "openapi_types"):
        model = getattr(client, kind)
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no {kind}"
            return
        types = {model.attribute_map[k]: t for k, t in model.openapi_types.items()}
        for key, entry in value.items():
            if key not in types:
                yield f"{where}.{key}"
            else:
                yield from unknown_fields(client, entry, types[key], f"{where}.{key}")
    elif kind in ("str", "int", "bool") and type(value).__name__ != kind:
        yield f"{where}: {value!r} is no {kind}"


class Reply:
    """What the client's deserialiser takes."""

    def __init__(self, value):
        import json

        self.data = json.dumps(value)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_the_schema_of_the_api(name):
    client = pytest.importorskip("kubernetes.client")
    for value in documents(f"kubernetes/{name}"):
        kind = MODELS[value["apiVersion"], value["kind"]]
        assert list(unknown_fields(client, value, kind)) == []
        # Raises where a required field is missing or a value is not one of those allowed.
        made = client.ApiClient().deserialize(Reply(value), kind)
        assert made.metadata.name


def test_the_check_itself_notices_mistakes():
    client = pytest.importorskip("kubernetes.client")
    value = one("Deployment")
    container_of = {"name": "x", "imagePullPolice": "Always"}
    broken = {**value, "spec": {**value["spec"], "replicas": "2", "template": {"spec": {"containers": [container_of]}}}}
    assert sorted(unknown_fields(client, broken, "V1Deployment")) == [
        ".spec.replicas: '2' is no int", ".spec.template.spec.containers[0].imagePullPolice"]
    without = {**value, "spec": {"template": value["spec"]["template"]}}
    with pytest.raises(ValueError, match="selector"):
        client.ApiClient().deserialize(Reply(without), "V1Deployment")


def test_everything_selects_the_pods():
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [one("Deployment")["spec"]["selector"]["matchLabels"], one("Service")["spec"]["selector"],
                 one("Service", "recommender-pods")["spec"]["selector"],
                 one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    assert all(s and s.items() <= labels for s in selectors)


def test_services_and_probes_name_ports_of_the_container():
    ports = {p["name"]: p["containerPort"] for p in container()["ports"]}
    given = flags(container()["args"])
    assert ports == {"grpc": int(given["port"]), "http": int(given["rest_api_port"])}
    for service in (one("Service"), one("Service", "recommender-pods")):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] == port["name"] and port["port"] == ports[port["name"]]
    assert one("Service", "recommender-pods")["spec"]["clusterIP"] == "None"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        check = container()[probe].get("httpGet") or container()[probe]["tcpSocket"]
        assert check["port"] in ports
        assert check.get("path", "/v1/models/recommender") == "/v1/models/recommender"
    # A model that loads slowly must not have its server restarted.
    assert "tcpSocket" in container()["livenessProbe"]
    assert container()["startupProbe"]["periodSeconds"] * container()["startupProbe"]["failureThreshold"] >= 120


def test_a_pod_ends_after_its_last_request():
    spec = one("Deployment")["spec"]["template"]["spec"]
    (_, seconds) = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert spec["terminationGracePeriodSeconds"] >= int(seconds) + 30


def test_files_come_from_the_generated_map():
    kustomization = document("kustomization.yaml")
    spec = one("Deployment")["spec"]["template"]["spec"]
    volumes = {v["name"]: v for v in spec["volumes"]}
    mounts = {m["mountPath"]: m for m in container()["volumeMounts"]}
    (generated,) = kustomization["configMapGenerator"]
    assert volumes[mounts["/config"]["name"]]["configMap"]["name"] == generated["name"]
    assert kustomization["generatorOptions"] == {"disableNameSuffixHash": True}
    for name, value in flags(container()["args"]).items():
        if name.endswith("_file"):
            assert value.startswith("/config/") and value.removeprefix("/config/") in generated["files"]
    assert all((FOLDER / f).is_file() for f in generated["files"])
    claim = volumes[mounts["/models"]["name"]]["persistentVolumeClaim"]["claimName"]
    assert one("PersistentVolumeClaim", claim) and mounts["/models"]["readOnly"]
    assert set(volumes) == {m["name"] for m in mounts.values()}


def test_kustomization_lists_every_manifest():
    """Structural: the fields of kustomize.config.k8s.io/v1beta1 that are used."""
    kustomization = document("kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "resources", "configMapGenerator", "generatorOptions", "labels",
                                  "images"}
    assert (kustomization["apiVersion"], kustomization["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    assert sorted(kustomization["resources"]) == [f"kubernetes/{name}" for name in MANIFESTS]
    (image,) = kustomization["images"]
    assert f"{image['name']}:{image['newTag']}" == IMAGE == container()["image"]


def test_scaling():
    scaler, budget = one("HorizontalPodAutoscaler")["spec"], one("PodDisruptionBudget")["spec"]
    target, deployment = scaler["scaleTargetRef"], one("Deployment")
    assert (target["apiVersion"], target["kind"], target["name"]) == (
        deployment["apiVersion"], deployment["kind"], deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"], "it would fight with the autoscaler at every apply"
    assert budget["maxUnavailable"] < scaler["minReplicas"] < scaler["maxReplicas"]
    # A share of what is requested: without a request there is nothing to scale by.
    assert scaler["metrics"][0]["resource"]["name"] in container()["resources"]["requests"]
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0 and rolling["maxSurge"] > 0


def test_pods_have_no_more_rights_than_they_need():
    spec = one("Deployment")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True
    rights = container()["securityContext"]
    assert rights == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                      "capabilities": {"drop": ["ALL"]}}


def test_metrics_are_where_the_annotations_say():
    notes = one("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/path"] == METRICS_PATH
    assert notes["prometheus.io/port"] == flags(container()["args"])["rest_api_port"]


def test_inference_service():
    """Structural: the fields of serving.kserve.io/v1beta1 as KServe documents them."""
    service = document("kserve/inference_service.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"} and set(service["spec"]) == {"predictor"}
    predictor = service["spec"]["predictor"]
    assert set(predictor) <= {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "canaryTrafficPercent",
                              "timeout", "containerConcurrency", "model"}
    assert predictor["scaleMetric"] in ("cpu", "memory", "concurrency", "rps")
    assert 1 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    model = predictor["model"]
    assert set(model) == {"modelFormat", "runtimeVersion", "protocolVersion", "storageUri", "args", "resources"}
    assert model["modelFormat"]["name"] == "tensorflow" and model["protocolVersion"] in ("v1", "grpc-v1")
    assert f"tensorflow/serving:{model['runtimeVersion']}" == IMAGE
    assert re.fullmatch(r"(gs|s3|pvc|hdfs|https)://\S+", model["storageUri"])
    assert flags(model["args"]).keys().isdisjoint({"port", "rest_api_port", "model_name", "model_base_path"})
    client = pytest.importorskip("kubernetes.client")
    assert list(unknown_fields(client, model["resources"], "V1ResourceRequirements")) == []
