"""The page of `tfmeta serve` and the JSON behind it."""

import contextlib
import functools
import importlib.resources
import re
import threading
import time
import weakref
from collections.abc import Callable

from tfmeta.errors import TfmetaError
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.page import page_request
from tfmeta.serving.page.counted_servable import API, CountedServable
from tfmeta.serving.page.page_model import PageModel
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.rest_reply import RestReply
from tfmeta.serving.server_metrics import NONE, UNKNOWN, ServerMetrics

PATH = "/"
PREFIX = "/page/"
# Everything is in the file itself; `data:` is its icon, which saves a request for /favicon.ico.
_HEADERS = (("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
                                        "form-action 'none'; frame-ancestors 'none'"),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"))
_TIMEOUT = 30.0
_MODEL = {"model": page_request.model_name, "version": page_request.version}
_PERSON = {"user": page_request.mapping, "support": page_request.rows}


class Page:
    """Answers `GET /` with one HTML file, and its requests below `/page/` with JSON.

        GET  /page/models.json     the models that are loaded
        POST /page/describe.json   {"model"}: label, features, what it can do
        POST /page/search.json     {"model", "text", "count"}: items by title or id
        POST /page/lists.json      {"model", "user", "support", "candidates", "count"}: before and after adaptation
        POST /page/influence.json  {"model", "user", "support", "items"}: what each support item did

    All but the first take a `version` too, and are counted: once under each signature that they ran, and one that ran
    none, or failed but for what it ran, under the signature `none`. A request that does not fit is answered 400 with a
    message.

    Args:
      manager: the loaded models.
      metrics: where requests are counted, or None.
    """

    def __init__(self, manager: ModelManager, *, metrics: ServerMetrics | None = None):
        self._manager, self._metrics = manager, metrics
        self._known: weakref.WeakKeyDictionary[object, PageModel] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._routes: dict[str, tuple[dict, Callable]] = {
            "describe": (_MODEL, lambda page, servable: page.describe(servable)),
            "search": ({**_MODEL, "text": page_request.text, "count": page_request.count}, _search),
            "lists": ({**_MODEL, **_PERSON, "candidates": page_request.rows, "count": page_request.count},
                      functools.partial(_timed, PageModel.lists)),
            "influence": ({**_MODEL, **_PERSON, "items": page_request.rows},
                          functools.partial(_timed, PageModel.influence))}

    def __call__(self, method: str, path: str, body: bytes) -> RestReply | None:
        """Answers a request, None if the path is not the page's; RequestError as the rest of the REST port."""
        if path == PATH:
            return RestReply(200, _html(), "text/html; charset=utf-8", _HEADERS) if method == "GET" else _only("GET")
        found = re.fullmatch(rf"{PREFIX}(\w+)\.json", path)
        if found is None:
            return None
        if found[1] == "models":
            return RestReply.of({"models": [{"name": name, "version": version} for name, version
                                            in self._manager.loaded().items()]}) if method == "GET" else _only("GET")
        if found[1] not in self._routes:
            return None
        if method != "POST":
            return _only("POST")
        return self._run(*self._routes[found[1]], body)

    def _run(self, fields: dict, answer: Callable, body: bytes) -> RestReply:
        begun = time.perf_counter()
        served, ran, code = (UNKNOWN, UNKNOWN), None, "INTERNAL"
        try:
            request = page_request.parse(body, fields=fields)
            with self._manager.lease(request.pop("model"), version=request.pop("version")) as servable:
                served = (servable.name, servable.version)
                ran = CountedServable(servable, metrics=self._metrics)
                reply = RestReply.of(answer(self._model(ran), ran, **request))
            code = "OK"
            return reply
        except RequestError as error:
            code = error.code
            raise
        except TfmetaError as error:
            code = "INVALID_ARGUMENT"
            raise RequestError(code, str(error)) from None
        finally:
            # What a signature's run ended with is counted there.
            if self._metrics is not None and (ran is None or ran.code != code):
                self._metrics.request(*served, NONE, api=API, code=code, seconds=time.perf_counter() - begun)

    def _model(self, counted: CountedServable) -> PageModel:
        with contextlib.suppress(KeyError):
            return self._known[counted.servable]
        made = PageModel(counted)
        with self._lock:
            return self._known.setdefault(counted.servable, made)


def _search(page: PageModel, servable, *, text: str, count: int) -> dict:
    return {"items": page.search(text, count=count), "of": len(page.titles)}


def _timed(answer: Callable, page: PageModel, servable, **request) -> dict:
    return answer(page, servable, **request, deadline=time.monotonic() + _TIMEOUT)


def _only(method: str) -> RestReply:
    return RestReply.error(f"The path requires {method}.", status=405)


@functools.cache
def _html() -> bytes:
    return importlib.resources.files(__package__).joinpath("page.html").read_bytes()
