"""Drives Debian's chromium through its DevTools protocol, over a pipe: no driver and no package needed."""

import base64
import contextlib
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import sys
import time

# The protocol's pipe is file descriptors 3 (to the browser) and 4 (from it).
_LAUNCH = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
           "os.execv(sys.argv[3], sys.argv[3:])")
_KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), " ": ("Space", 32, " "),
         "ArrowDown": ("ArrowDown", 40, ""), "ArrowUp": ("ArrowUp", 38, ""), "ArrowRight": ("ArrowRight", 39, ""),
         "ArrowLeft": ("ArrowLeft", 37, "")}


def find() -> str | None:
    """Returns the path of chromium, None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """A headless browser with one page at a time.

    Args:
      profile: an empty directory.

    Attributes:
      requests: URLs that the page asked for since it was opened.
      problems: exceptions and messages of errors in its console.
    """

    def __init__(self, profile: str):
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        child = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (reads, writes)]
        for fd in (reads, writes):
            os.close(fd)
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
                 "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Which chromium does not start without, as root.
        self._process = subprocess.Popen([sys.executable, "-c", _LAUNCH, *map(str, child), find(), *flags],
                                         pass_fds=child, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for fd in child:
            os.close(fd)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._from, selectors.EVENT_READ)
        self._data, self._number, self._session = b"", 0, None
        self.requests: list[str] = []
        self.problems: list[str] = []

    def open(self, url: str) -> None:
        """Opens a URL in a fresh page."""
        target = self.call("Target.createTarget", url="about:blank", own_page=False)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True, own_page=False)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.requests.clear()
        self.problems.clear()
        self.call("Page.navigate", url=url)

    def call(self, method: str, *, own_page: bool = True, **params):
        """Runs a command of the protocol and returns its result; RuntimeError if it fails."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if own_page and self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data):]
        deadline = time.monotonic() + 60
        while True:
            reply = self._receive(deadline)
            if reply.get("id") == self._number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']['message']}")
                return reply["result"]
            self._note(reply)

    def evaluate(self, expression: str):
        """Returns the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression: str, *, seconds: float = 30.0):
        """Waits until an expression is true, and returns its value."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(RuntimeError):  # The page may be loading.
                if value := self.evaluate(expression):
                    return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited for {expression}; the page says: "
                                   f"{self.evaluate('document.body.innerText')}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Clicks with the mouse on the middle of the first element that matches."""
        place = self.wait(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null; "
                          "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
                          "return r.width && {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            code, number, text = _KEYS[key]
            common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def screen(self, *, width: int, height: int, dark: bool = False) -> None:
        """Sets the size of the screen in pixels, and the colour scheme that its owner prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def shoot(self, path: str) -> None:
        """Writes a picture of the whole page (PNG)."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture))

    def close(self) -> None:
        """Ends the browser."""
        with contextlib.suppress(RuntimeError, TimeoutError, OSError):
            self.call("Browser.close", own_page=False)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._selector.close()
        os.close(self._to)
        os.close(self._from)

    def _receive(self, deadline: float) -> dict:
        while b"\0" not in self._data:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("chromium does not answer")
            data = os.read(self._from, 1 << 16)
            if not data:
                raise RuntimeError("chromium has ended")
            self._data += data
        message, self._data = self._data.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
