"""Docker Compose, Prometheus and Grafana.

Validated structurally, since no installed package carries their schemas: keys, references between files, and that every
metric asked for exists: of the embedded server by asking its registry, of the stock server by the list below.
"""

import json
import re

import pytest
from config_files import FOLDER, IMAGE, METRICS_PATH, document, flags

DASHBOARDS = sorted(p.name for p in (FOLDER / "grafana" / "dashboards").glob("*.json"))
# Of TensorFlow Serving with --monitoring_config_file; histograms have _bucket, _sum and _count.
COUNTERS = {":tensorflow:serving:request_count": {"model_name", "status"},
            ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"}}
HISTOGRAMS = {":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint"},
              ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime"},
              ":tensorflow:serving:model_warmup_latency": {"model_path", "status"},
              ":tensorflow:serving:batching_session:queuing_latency": set(),
              ":tensorflow:serving:batching_session:input_batch_size": set(),
              ":tensorflow:serving:batching_session:processed_batch_size": set(),
              ":tensorflow:serving:batching_session:padding_size": {"execution_batch_size"}}
WORDS = {"sum", "rate", "by", "le", "histogram_quantile", "increase", "up", "max", "job", "instance"}


@pytest.fixture(scope="module")
def known():
    """Sample name -> labels of every metric that either server has."""
    from tfmeta.serving.server_metrics import ServerMetrics

    found = dict(COUNTERS) | {"up": {"job", "instance"}}
    for name, labels in HISTOGRAMS.items():
        found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
    metrics = ServerMetrics(loaded=lambda: {"m": 1})
    metrics.request("m", 1, "score", api="grpc", code="OK", seconds=0.1)
    metrics.batching("m", 1, "score")[0](1, 1, 4)
    for family in metrics.registry.collect():
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, set()) | set(sample.labels)
    return found


def check_query(text, known):
    """Balanced brackets, known metrics, and labels that these metrics have."""
    text = text.replace("$__rate_interval", "5m")
    depth = []
    for character in re.sub(r'"[^"]*"', '""', text):
        if character in "([{":
            depth.append({"(": ")", "[": "]", "{": "}"}[character])
        elif character in ")]}":
            assert depth and depth.pop() == character, text
    assert not depth, text
    bare = re.sub(r'"[^"]*"', "", text)
    names = [n for n in re.findall(r"(?<![\w:])[:a-z_][\w:]*", re.sub(r"[{(][^{}()]*[})]|\[[^]]*\]", "", bare))]
    metrics = set(re.findall(r"(?<![\w:])(?::tensorflow|tfmeta_serving)[\w:]*", bare)) | (
        {"up"} if re.match(r"up\b", bare) else set())
    assert metrics and metrics <= set(known), metrics - set(known)
    labels = set().union(*(known[m] for m in metrics)) | {"job", "instance"}
    used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*$", "\n".join(re.split(r'"[^"]*"', text)), re.M))
    used |= {w.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", bare) for w in group.split(",")}
    assert used <= labels, used - labels
    assert all(n in WORDS or n in metrics for n in names), names


@pytest.mark.parametrize(("query", "fine"), [
    ("sum by (model_name) (rate(:tensorflow:serving:request_count[5m]))", True),
    ("sum by (model) (rate(:tensorflow:serving:request_count[5m]))", False),
    ("rate(:tensorflow:serving:requests[5m])", False),
    ('rate(:tensorflow:serving:request_count{code="OK"}[5m])', False),
    ("rate(:tensorflow:serving:request_count[5m]", False),
    ("rates(:tensorflow:serving:request_count[5m])", False),
    ("histogram_quantile(0.5, sum by (le) (rate(:tensorflow:serving:request_latency[5m])))", False)])
def test_the_check_of_queries_notices_mistakes(known, query, fine):
    if fine:
        check_query(query, known)
    else:
        with pytest.raises(AssertionError):
            check_query(query, known)


def test_compose_services():
    compose = document("docker-compose.yaml")
    assert set(compose) == {"name", "services", "volumes"} and set(compose["services"]) == {
        "serving", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert set(service) <= {"image", "entrypoint", "command", "ports", "volumes", "environment", "depends_on",
                                "healthcheck", "restart", "stop_grace_period"}, name
        image = re.sub(r"\$\{\w+:-\}$", "", service["image"])
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", image), f"{name} requires an image by explicit tag"
        assert all(p.startswith("127.0.0.1:") for p in service["ports"]), "no server here asks who is calling"
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                assert volume["read_only"] is True
                source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume["source"])
                assert source == "../models" or (FOLDER / source).is_dir(), source
            else:
                assert volume["source"] in compose["volumes"]
        for other in service.get("depends_on", ()):
            assert other in compose["services"]


def test_compose_pins_the_server_by_tag_and_where_asked_by_digest():
    text = (FOLDER / "docker-compose.yaml").read_text("utf-8")
    assert document("docker-compose.yaml")["services"]["serving"]["image"] == f"{IMAGE}${{TF_SERVING_DIGEST:-}}"
    variables = set(re.findall(r"\$\{(\w+)", text))
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert variables == {"MODELS", "TF_SERVING_DIGEST"}
    assert all(f"#   {name}" in text and name in readme for name in variables)


def test_the_server_finds_its_files():
    serving = document("docker-compose.yaml")["services"]["serving"]
    assert serving["entrypoint"] == ["tensorflow_model_server"]
    given = flags(serving["command"])
    assert {v["target"]: v["source"] for v in serving["volumes"]}["/config"] == "."
    for name, value in given.items():
        if name.endswith("_file"):
            assert (FOLDER / value.removeprefix("/config/")).is_file(), value
    published = {p.split(":")[1]: p.split(":")[2] for p in serving["ports"]}
    assert published == {given["port"]: "8500", given["rest_api_port"]: "8501"}
    assert given["rest_api_port"] in serving["healthcheck"]["test"][-1]
    # Without it a server does not start with labels in its configuration.
    assert given["allow_version_labels_for_unavailable_models"] == "true"


def test_prometheus_scrapes_the_server():
    config = document("prometheus/prometheus.yml")
    assert set(config) == {"global", "rule_files", "scrape_configs"}
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == METRICS_PATH and job["static_configs"] == [{"targets": ["serving:8501"]}]
    assert all((FOLDER / "prometheus" / name).is_file() for name in config["rule_files"])


def test_alerts(known):
    (group,) = document("prometheus/alerts.yml")["groups"]
    jobs = {j["job_name"] for j in document("prometheus/prometheus.yml")["scrape_configs"]}
    assert len({r["alert"] for r in group["rules"]}) == len(group["rules"]) >= 4
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]
        limit = re.search(r"\s(>|==)\s[\d.]+$", rule["expr"].strip())
        assert limit, rule["alert"]
        check_query(rule["expr"].strip()[:limit.start()], known)
        named = re.findall(r'job="(\w+)"', rule["expr"])
        assert set(named) <= jobs


def test_grafana_is_provisioned():
    (source,) = document("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    compose = document("docker-compose.yaml")["services"]
    assert source["url"] == f"http://prometheus:{compose['prometheus']['ports'][0].rsplit(':')[-1]}"
    (provider,) = document("grafana/provisioning/dashboards/tfmeta.yaml")["providers"]
    mounts = {v["target"]: v["source"] for v in compose["grafana"]["volumes"]}
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./grafana/provisioning"
    assert DASHBOARDS == ["embedded_server.json", "tensorflow_serving.json"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards(name, known):
    with open(FOLDER / "grafana" / "dashboards" / name, encoding="utf-8") as file:
        board = json.load(file)
    (source,) = document("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    uid = {"type": "prometheus", "uid": source["uid"]}
    assert board["uid"] and board["title"]
    (variable,) = board["templating"]["list"]
    assert variable["datasource"] == uid
    metric, label = re.fullmatch(r"label_values\(([\w:]+), (\w+)\)", variable["definition"]).groups()
    assert label in known[metric]
    taken = set()
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"]) >= 6
    for panel in board["panels"]:
        assert panel["title"] and panel["description"] and panel["datasource"] == uid
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken
        taken |= cells
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"]) >= 1
        for target in panel["targets"]:
            assert target["datasource"] == uid
            check_query(target["expr"], known)
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {variable["name"], "__rate_interval"}


def test_the_dashboards_show_every_metric_of_the_embedded_server(known):
    """A new metric that nobody looks at is of no use."""
    text = (FOLDER / "grafana" / "dashboards" / "embedded_server.json").read_text("utf-8")
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", n) for n in re.findall(r"tfmeta_serving_\w+", text)}
    exist = {re.sub(r"_(total|bucket|sum|count|created)$", "", n) for n in known if n.startswith("tfmeta_serving_")}
    assert exist - shown <= {"tfmeta_serving_batch_requests"}, exist - shown
