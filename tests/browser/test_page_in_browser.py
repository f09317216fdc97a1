"""Clicks through the page."""

import json
import os
import shutil

import pytest

from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.server import EmbeddedServer

pytestmark = pytest.mark.browser
TOKEN = "0123456789abcdef"
READY = "document.querySelector('#lists').ariaBusy === 'false'"
ROWS = "[...document.querySelectorAll('#{} li')].map(e => e.innerText)"


@pytest.fixture(scope="module")
def server(page_bases):
    with EmbeddedServer(page_bases, grpc_port=0, rest_port=0, warm_up=False) as made:
        yield made


@pytest.fixture
def page(browser, server):
    browser.open(f"http://{server.rest_address}/")
    browser.screen(width=1280, height=900)
    browser.wait("document.querySelectorAll('#model option').length === 4")
    yield browser
    # Nothing but this server was asked, and nothing was wrong in the console.
    own = (f"http://{server.rest_address}/", "data:,")
    assert browser.requests and all(url.startswith(own) for url in browser.requests)
    assert browser.problems == []


def quoted(value) -> str:
    """What JSON.stringify makes of a value, as a literal."""
    return json.dumps(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def choose(page, model):
    page.evaluate(f"(() => {{ const m = document.querySelector('#model'); m.value = '{model}'; "
                  "m.dispatchEvent(new Event('change')); })()")
    page.wait(f"about && about.model === '{model}'")


def settled(page, expression="true"):
    """Waits for the answer to what was done last."""
    page.wait(f"({expression}) && {READY}")


def add(page, text, title):
    page.click("#query")
    page.type(text)
    page.wait(f"[...document.querySelectorAll('[role=option]')].some(o => o.innerText.includes('{title}') "
              "&& o.ariaSelected === 'true')")
    page.press("Enter")
    page.wait(f"document.querySelector('#support').innerText.includes('{title}')")


def test_rate_items_and_see_the_list_change(page, shoot):
    choose(page, "movies")
    settled(page, "document.querySelectorAll('#after li').length === 10")
    before = page.evaluate(ROWS.format("before"))
    assert "Nothing to adapt to yet" in page.evaluate("document.querySelector('#source').innerText")
    add(page, "golden har", "Golden Harbour")
    add(page, "m2", "Last Harbour")
    add(page, "last lett", "Last Letter")
    # A rating by mouse, another one by keyboard.
    page.click("#support li:nth-child(1) input[value='5']")
    page.evaluate("document.querySelector(\"#support li:nth-child(2) input[value='4']\").focus()")
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft")
    page.wait("support.map(s => s.label).join() === '5,1,4'")
    settled(page, "document.querySelector('#after').innerText.includes('from')")
    after = page.evaluate(ROWS.format("after"))
    assert len(after) == 10 and [r.split("\n")[1] for r in after] != [r.split("\n")[1] for r in before]
    page.click("#after li:nth-child(2) button")
    page.wait("!document.querySelector('#why').hidden && document.querySelectorAll('#bars li').length === 3")
    bars = page.evaluate(ROWS.format("bars"))
    assert any("Last Harbour · 1" in bar for bar in bars)
    widths = page.evaluate("[...document.querySelectorAll('.bar')].map(b => parseFloat(b.style.width))")
    assert widths[0] == 50 and sorted(widths, reverse=True) == widths
    shoot("movies-light")
    page.screen(width=1280, height=900, dark=True)
    shoot("movies-dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    # What is known of the user changes both lists.
    old = page.evaluate(ROWS.format("before"))
    page.evaluate("(() => { const s = document.querySelector('#user select'); s.value = 'writer'; "
                  "s.dispatchEvent(new Event('input', { bubbles: true })); })()")
    page.wait(f"JSON.stringify({ROWS.format('before')}) !== {quoted(old)}")
    settled(page)
    page.click("#support li:nth-child(1) button.plain")
    page.wait("document.querySelectorAll('#support li').length === 2 "
              "&& document.activeElement.textContent === 'Remove'")
    page.click("#clear")
    page.wait("document.querySelectorAll('#support li').length === 0")


def test_by_keyboard_alone(page):
    choose(page, "movies")
    settled(page, "document.querySelectorAll('#after li').length === 10")
    page.evaluate("document.querySelector('#model').focus()")
    page.press("Tab")
    assert page.evaluate("document.activeElement.id") == "query"
    page.press("ArrowDown")
    page.wait("document.querySelectorAll('[role=option]').length === 12")
    page.press("ArrowDown", "ArrowDown")
    assert page.evaluate("document.querySelector('[aria-selected=true]').innerText") == "Golden Harbour"
    assert page.evaluate("document.querySelector('#query').getAttribute('aria-activedescendant')") == "option-1"
    page.press("Escape")
    assert page.evaluate("document.querySelector('#options').hidden")
    page.type("quiet winter")
    page.wait("document.querySelectorAll('[role=option]').length === 2")
    page.press("Enter")
    page.wait("support.length === 1 && support[0].id === 'm24' && document.activeElement.id === 'query'")
    page.press("Tab", "Tab")
    page.press("ArrowRight")
    page.wait("support[0].label === 5 || support[0].label === 1")
    settled(page, "!document.querySelector('#source').innerText.includes('Nothing')")
    page.evaluate("document.querySelector('#after button').focus()")
    page.press("Enter")
    page.wait("document.querySelectorAll('#bars li').length === 1")


def test_a_phone(page, shoot):
    page.screen(width=360, height=740)
    choose(page, "movies")
    add(page, "m1", "Golden Harbour")
    settled(page, "!document.querySelector('#source').innerText.includes('Nothing')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visible = "[...document.querySelectorAll('.columns > div')].map(e => e.getBoundingClientRect().height > 0)"
    assert page.evaluate(visible) == [False, True]
    page.click("[name=tab][value=before]")
    page.wait(f"{visible}.join() === 'true,false'")
    page.click("[name=tab][value=after]")
    page.click("#after li button")
    page.wait("document.querySelectorAll('#bars li').length === 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shoot("movies-phone")


def test_clicks_and_a_sample(page, shoot):
    choose(page, "clicks")
    settled(page, "document.querySelectorAll('#after li').length === 10")
    assert "makes no lists itself" in page.evaluate("document.querySelector('#source').innerText")
    add(page, "101", "Golden Harbour")
    assert page.evaluate("document.querySelector('#support .rating')") is None
    settled(page, "document.querySelector('#after').innerText.includes(' pp')")
    assert not page.evaluate("document.querySelector('#source').innerText.includes('Nothing')")
    assert page.evaluate("document.querySelectorAll('#after .up, #after .down').length") > 5
    # An id that nobody knows is an item too.
    add(page, "987654321", "987654321")
    settled(page, "support.length === 2")
    shoot("clicks")


def test_items_with_features_and_weights(page, shoot):
    choose(page, "plays")
    page.wait("!document.querySelector('#describe-item').hidden")
    assert page.evaluate("document.querySelector('#find').hidden")
    for button, item in ((1, "a"), (2, "b"), (2, "c")):
        page.click("#describe-item input[type=text]")
        page.evaluate("document.activeElement.value = ''")
        page.type(item)
        page.click(f"#describe-item fieldset label:nth-of-type({button})")
        page.click(f"#describe-item .actions button:nth-child({button})")
    settled(page, "document.querySelectorAll('#after li').length === 2")
    page.click("#support input[type=number]")
    page.evaluate("document.activeElement.select()")
    page.type("12.5")
    page.wait("support[0].label === 12.5")
    page.click("#after li button")
    page.wait("document.querySelectorAll('#bars li').length === 1")
    shoot("plays")


def test_a_model_of_somebody_else(page, shoot):
    choose(page, "foreign")
    page.wait("document.querySelector('[role=alert]').innerText.includes(\"no signature 'metadata'\")")
    assert page.evaluate("document.querySelector('main').hidden")
    shoot("foreign")
    choose(page, "movies")
    settled(page, "document.querySelectorAll('#after li').length === 10")
    assert page.evaluate("document.querySelector('[role=alert]').hidden")


def test_a_token_is_asked_for(browser, page_bases, shoot):
    with EmbeddedServer({"movies": page_bases["movies"]}, grpc_port=0, rest_port=0, warm_up=False,
                        token=BearerToken(TOKEN)) as server:
        browser.open(f"http://{server.rest_address}/")
        browser.screen(width=1280, height=900)
        browser.wait("!document.querySelector('#token').hidden && document.activeElement.id === 'secret'")
        browser.type("another token, wrong")
        browser.press("Enter")
        browser.wait("document.querySelector('[role=alert]').innerText.includes('does not accept')")
        shoot("token")
        browser.evaluate("document.querySelector('#secret').value = ''")
        browser.click("#secret")
        browser.type(TOKEN)
        browser.press("Enter")
        browser.wait("document.querySelectorAll('#after li').length === 10 && document.querySelector('#token').hidden")
        assert TOKEN not in "".join(browser.requests)
    # The server is gone: the page says so.
    browser.click("#after li button")
    browser.wait("document.querySelector('[role=alert]').innerText.includes('cannot be reached') || selected")
    browser.evaluate("update()")
    browser.wait("document.querySelector('[role=alert]').innerText.includes('cannot be reached')")


def test_a_new_version_takes_over_and_keeps_what_was_entered(browser, page_bases, tmp_path):
    base = tmp_path / "movies"
    shutil.copytree(os.path.join(page_bases["movies"], "1"), base / "1")
    with EmbeddedServer({"movies": str(base)}, grpc_port=0, rest_port=0, warm_up=False, poll_seconds=0.1) as server:
        browser.open(f"http://{server.rest_address}/")
        browser.wait("document.querySelectorAll('#after li').length === 10")
        add(browser, "m1", "Golden Harbour")
        browser.evaluate("(() => { const s = document.querySelector('#user select'); s.value = 'writer'; })()")
        settled(browser)
        shutil.copytree(base / "1", base / "growing")
        os.rename(base / "growing", base / "2")
        browser.wait("fetch('/page/models.json').then(r => r.json()).then(c => c.models[0].version === 2)")
        browser.click("#support input[value='1']")
        browser.wait("document.querySelector('[role=alert]').innerText.includes('Version 2 answers now')")
        settled(browser, "document.querySelector('#about').innerText.includes('version 2')")
        assert browser.evaluate("[support.length, support[0].label, userForm.read().occupation]") == [1, 1, "writer"]
        assert browser.problems == []
