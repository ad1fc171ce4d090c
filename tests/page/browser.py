"""Drives a Chromium through the DevTools protocol: loads pages, presses keys, drops files, reads what is shown.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
"""The last one cuts the network off: no name is resolved."""
START_S = 60.0
WAIT_S = 60.0
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37}


class Page:
    """One tab.

    Args:
        socket: of its debugger.

    Attributes:
        problems: console errors, uncaught exceptions and violations of the Content-Security-Policy, in words.
        expected: parts of problems that a test causes on purpose.
        addresses: of everything that the tab has asked for.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0
        self.problems: list[str] = []
        self.expected: list[str] = []
        self.addresses: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=WAIT_S))
            if message.get("id") == self._calls:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, said: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning", "assert"}:
            self.problems.append(" ".join(str(each.get("value", each.get("description"))) for each in said["args"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.problems.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.addresses.append(said["request"]["url"])

    def open(self, url: str) -> None:
        """Load a page and wait until its scripts have run."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def js(self, code: str) -> Any:
        """Evaluate an expression, or await it; returns its value as JSON would hold it."""
        answer = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = WAIT_S) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.js(f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}; {self.js('document.body.innerText')}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Return the text of the first element that a CSS selector finds."""
        return str(self.js(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a CSS selector finds."""
        return list(self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText)"))

    def click(self, selector: str) -> None:
        """Click in the middle of an element, with the mouse."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll an element into view and return the middle of it, in the window."""
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return float(x), float(y)

    def point(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        code, text = KEYS[key], {"Enter": "\r", " ": " "}.get(key, "")
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in a file input."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[*map(str, files)], objectId=found["result"]["objectId"])

    def drop(self, selector: str, files: Sequence[Path]) -> None:
        """Drag files onto an element and drop them there."""
        x, y = self.middle(selector)
        data = {"items": [], "files": [*map(str, files)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def window(self, width: int, height: int = 900, *, dark: bool = False, ratio: float = 1.0) -> None:
        """Set the size of the window, in CSS pixels, and the colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": ratio}
        self.call("Emulation.setDeviceMetricsOverride", **size, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Save what the whole page looks like, as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def downloads_to(self, folder: Path) -> None:
        """Save downloads without asking."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))


class Browser:
    """A running Chromium.

    Args:
        port: of its debugger.
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/json"

    @contextmanager
    def page(self) -> Iterator[Page]:
        """Open a tab and close it at the end. Tabs share the cache, and nothing that a page keeps."""
        with urlopen(f"{self._url}/version") as answer:
            version = json.load(answer)
        with connect(version["webSocketDebuggerUrl"], max_size=None, max_queue=None) as whole:
            target = _ask(whole, "Target.createTarget", url="about:blank")["targetId"]
            try:
                tab = version["webSocketDebuggerUrl"].partition("/devtools/")[0] + f"/devtools/page/{target}"
                with connect(tab, max_size=None, max_queue=None) as socket:
                    yield Page(socket)
            finally:
                _ask(whole, "Target.closeTarget", targetId=target)


def _ask(socket: ClientConnection, method: str, **parameters: Any) -> dict[str, Any]:
    socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    while (message := json.loads(socket.recv(timeout=WAIT_S))).get("id") != 1:
        pass
    return dict(message["result"])


@contextmanager
def running(program: str, folder: Path) -> Iterator[Browser]:
    """Start a Chromium with a new profile and stop it at the end.

    Args:
        program: its path.
        folder: an empty one, for the profile.
    """
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={folder / 'profile'}"], stdout=log, stderr=log)
    try:
        port = folder / "profile" / "DevToolsActivePort"
        end = time.monotonic() + START_S
        while not (port.exists() and port.read_text().count("\n")):
            assert process.poll() is None, (folder / "chromium.log").read_text()
            assert time.monotonic() < end, "Chromium does not start"
            time.sleep(0.05)
        yield Browser(int(port.read_text().splitlines()[0]))
    finally:
        process.terminate()
        process.wait(timeout=30)
