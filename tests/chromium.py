"""Headless Chromium for tests of pages, driven over its debugging pipe.

No package is needed: the browser reads and writes JSON texts that end with a null byte,
on file descriptors 3 and 4.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import time
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, _NAMES)), None)
_PATIENCE = 40.0  # seconds for anything that a page does
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium")


class Chromium:
    """One browser with one page."""

    def __init__(self, folder: pathlib.Path):
        """Start it.

        Args:
          folder: of its profile.
        """
        self._log: list[dict] = []
        self.requests: list[str] = []  # addresses that pages asked for
        self.said: list[str] = []  # lines on the console, and errors
        self._number = 0
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        command = [
            str(PROGRAM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--hide-scrollbars",
            "--disable-extensions",
            "--no-first-run",
            f"--user-data-dir={folder}",
            "about:blank",
        ]

        def descriptors() -> None:
            for number in (to_read, to_write):  # out of the way of 3 and 4
                os.dup2(number, number + 100)
            os.dup2(to_read + 100, 3)
            os.dup2(to_write + 100, 4)

        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(
            command, preexec_fn=descriptors, close_fds=False, **quiet
        )
        os.close(to_read)
        os.close(to_write)
        self._rest = b""
        self._session = ""
        pages = self.send("Target.getTargets")["targetInfos"]
        page = next(p["targetId"] for p in pages if p["type"] == "page")
        given = {"targetId": page, "flatten": True}
        self._session = self.send("Target.attachToTarget", **given)["sessionId"]
        for name in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{name}.enable")

    def send(self, method: str, **given: Any) -> dict:
        """Call a method of the debugging protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict:
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        answer = json.loads(text)
        method, given = answer.get("method"), answer.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(given["exceptionDetails"])[:800])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(given["args"])[:800])
        elif method == "Log.entryAdded":
            self.said.append(given["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.said.append(f"dialog: {given['message']}")
        return answer

    def open(self, address: str) -> None:
        """Open an address again and wait until the page says that it is ready."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=address)
        self.wait("document.body?.dataset.ready === 'true'")

    def run(self, code: str) -> Any:
        """The value of an expression in the page."""
        given = {"expression": code, "returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", **given)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, code: str) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if value := self.run(code):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{code} is not true; the page said {self.said}")

    def text(self, selector: str) -> str:
        """The text that a person sees in an element."""
        return self.run(
            f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"
        )

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"!!{found}")
        self.run(f"{found}.scrollIntoView({{block: 'center', inline: 'center'}})")
        box = self.run(f"{found}.getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased"):
            given = {"type": kind, "button": "left", "clickCount": 1, **place}
            self.send("Input.dispatchMouseEvent", **given)

    def choose(self, selector: str, value: str) -> None:
        """Give a field a value, as its user does."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.value = {json.dumps(value)}")
        for event in ("input", "change"):
            self.run(f"{found}.dispatchEvent(new Event('{event}', {{bubbles: true}}))")

    def hover(self, selector: str) -> None:
        """Move the mouse onto an element."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center'}})")
        # An inline element of several lines: the first of them.
        box = self.run(f"{found}.getClientRects()[0].toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **place)

    def key(self, name: str) -> None:
        """Press a key."""
        text = {"text": name} if len(name) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name)

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Set the window's size and its preference for light or dark."""
        given = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", mobile=False, **given)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: pathlib.Path) -> None:
        """Save what the window shows as PNG."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)
