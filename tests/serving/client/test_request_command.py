"""`tfmeta request` against a real server, and the mistakes that it explains."""

import io
import json

import pytest

from tfmeta import cli


@pytest.fixture
def ask(movie_server, capsys, monkeypatch):
    monkeypatch.delenv("TFMETA_TOKEN", raising=False)

    def ask(*words, model="movies", stdin=None):
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        address = movie_server.rest_address if "--rest" in words else movie_server.grpc_address
        code = cli.main(["request", "--model", model, "--address", address, *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


def results(answer):
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)["results"]


@pytest.mark.parametrize("way", [(), ("--rest",)])
def test_options(ask, way):
    words = ("--user", "age=30", "--user", "tags=x|y", "--user", "place=1|2", "--user", "zip-code=a",
             "--support", "m1=5", "--support", "m2=2.0", "--candidates", "m3", "m9", *way)
    (result,) = results(ask("--json", *words))
    assert result == {"items": ["m3", "m9"], "scores": [59.5, 65.5], "base_scores": [56, 62], "status": 0}
    code, out, _ = ask(*words)
    assert code == 0 and out.splitlines() == ["rank  item    score  unadapted", "   1  m9    65.5000    62.0000",
                                             "   2  m3    59.5000    56.0000"]


def test_methods(ask):
    assert results(ask("--json", "--candidates", "m3"))[0]["scores"] == [3]
    assert results(ask("--json", "--count", "2", "--exclude", "m9"))[0]["items"] == ["m8", "m7"]
    assert results(ask("--json", "--support", "m9=4", "--count", "1"))[0] == {"items": ["m8"], "scores": [12],
                                                                           "status": 0}
    explained = ask("--method", "explain", "--support", "m1=5", "--support", "m2=2", "--candidates", "m3")[1]
    assert explained.splitlines()[0].split() == ["rank", "item", "score", "unadapted", "m1", "m2"]
    assert explained.splitlines()[1].split() == ["1", "m3", "6.5000", "3.0000", "+2.5000", "+1.0000"]
    assert results(ask("--json", "--support", "m1", "--candidates", "m3", model="clicks"))[0]["scores"] == [4]
    code, out, _ = ask("--candidates", *(f"m{i}" for i in range(9)), "--top", "2")
    assert code == 0 and out.splitlines()[1].split()[1] == "m8" and out.splitlines()[-1] == "... and 7 more"


def test_state_is_kept_between_requests(ask, tmp_path):
    state = results(ask("--json", "--method", "adapt", "--support", "m1=5"))[0]
    assert state["numbers"] == 2 and state["state_model"] == "model-True-0"
    assert "2 numbers for model model-True-0" in ask("--method", "adapt", "--support", "m1=5")[1]
    (tmp_path / "one.json").write_text(json.dumps({"state": state["state"], "candidates": ["m3"]}))
    assert results(ask(str(tmp_path / "one.json"), "--json"))[0]["scores"] == [8]


def test_files_and_standard_input(ask, tmp_path):
    rows = [{"user": {"age": 1}, "support": [["m1", 5], ["m2", 2]], "candidates": ["m1", "m2"]},
            {"user": None, "support": [], "candidates": ["m3"]}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    for answer in (ask(str(tmp_path / "rows.json"), "--json"),
                   ask("-", "--json", stdin="\n".join(map(json.dumps, rows)) + "\n")):
        assert [r["scores"] for r in results(answer)] == [[5.5, 6.5], [3]]
    shared = ask("-", "--json", "--candidates", "m0", stdin=json.dumps([{"user": {"age": i}} for i in range(3)]))
    assert [r["scores"] for r in results(shared)] == [[0], [1], [2]]
    code, out, _ = ask("-", stdin=json.dumps(rows))
    assert code == 0 and out.count("user ") == 2 and "\n\nuser 1\n" in out
    items = [{"movie": "new", "price": 3, "genres": ["x"]}]
    assert results(ask("-", "--json", model="films", stdin=json.dumps({"candidates": items})))[0]["scores"] == [13]


def test_describe_and_versions(ask):
    code, out, _ = ask("--method", "describe")
    assert code == 0 and "model          movies version 1" in out and "tags (multi_categorical of 3)" in out
    content = json.loads(ask("--method", "describe", "--json")[1])
    assert content["label"]["name"] == "stars" and content["item"] == [
        {"name": "movie", "kind": "categorical", "dtype": "string"}] and content["support_bound"] == 4
    assert json.loads(ask("--method", "versions", "--json", "--wait", "5")[1]) == {
        "model": "movies", "method": "versions", "versions": [1]}
    assert ask("--method", "versions", "--rest", model="films")[1] == "films: 2\n"


@pytest.mark.parametrize(("words", "stdin", "message"), [
    ((), None, "requires FILE or some of --user"), (("--support", "m1"), None, "requires ITEM=LABEL"),
    (("--support", "m1=good"), None, "requires ITEM=LABEL with a number"),
    (("--user", "age"), None, "--user requires FEATURE=VALUE"),
    (("--user", "aeg=3"), None, "Unknown feature 'aeg' of the user. Did you mean 'age'"),
    (("--user", "age=old"), None, "'age' requires a number, received 'old'"),
    (("--method", "explain", "--candidates", "m1"), None, "explain requires candidates, support"),
    (("--candidates", "m1", "--count", "3"), None, "--count requires recommendations"),
    (("--candidates", "m1", "--exclude", "m1"), None, "score requires candidates, and may have user"),
    (("-",), "{", "Requests require JSON"), (("-",), "[]", "at least one row"), (("-",), "[3]", "received 3 in row 0"),
    (("-",), '{"canditates": []}', "Did you mean 'candidates'"),
    (("-",), '[{"candidates": ["a"]}, {"user": {}}]', "Every row requires the same keys"),
    (("-", "--candidates", "m1"), '{"candidates": ["a"]}', "the file or the option, received both in row 0"),
    (("-",), '{"state": "?", "candidates": ["a"]}', "requires what adapt printed"),
    (("-",), '{"candidates": ["m1"], "support": [["m1", NaN]]}', "row 0: a non-finite label was dropped"),
    (("/nowhere/requests.json",), None, "No such file"),
    (("--candidates", "m1", "--client-cert", "c.pem"), None, "client_cert and client_key"),
    (("--candidates", "m1", "--label", "canary"), None, "Unrecognized servable version label: canary"),
])
def test_mistakes_are_one_line(ask, words, stdin, message):
    code, out, err = ask(*words, stdin=stdin)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


def test_accepted_status_is_noted(ask):
    request = '{"candidates": ["m1"], "support": [["m1", NaN]]}'
    code, out, _ = ask("-", "--accept-status", stdin=request)
    assert code == 0 and out.endswith("note: a non-finite label was dropped\n")


def test_token(ask, movie_server, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("secret\n")
    assert results(ask("--json", "--candidates", "m1", "--token-file", str(tmp_path / "token")))[0]["scores"] == [1]
    (tmp_path / "token").write_text("two words")
    assert "requires one token" in ask("--candidates", "m1", "--token-file", str(tmp_path / "token"))[2]
    monkeypatch.setenv("TFMETA_TOKEN", "secret")
    assert cli.main(["request", "--model", "m", "--candidates", "m1", "--address", "example.org:1"]) == 2
