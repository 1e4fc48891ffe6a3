"""A real browser without a window: headless Chromium, spoken to over a pair of pipes."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--disable-breakpad", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
# It wants commands on descriptor 3 and answers on 4. A shell puts them there without touching ours.
_ON_3_AND_4 = 'exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null'


class Told(NamedTuple):
    """What a page did besides showing itself."""

    messages: list[str]  # the console, exceptions that nobody caught, and what the browser complained of
    requests: list[str]  # every address that was asked for, the page's own among them


class Browser:
    """One browser with one page. Every wait ends after `patience` seconds."""

    def __init__(self, process: subprocess.Popen[bytes], patience: float) -> None:
        self._process = process
        self._patience = patience
        self._numbers = itertools.count(1)
        self._pending = b""
        self._told = Told([], [])
        self._loaded = False
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and what it brings."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        command |= {"sessionId": self._session} if self._session else {}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\0")
        until = time.monotonic() + self._patience
        while True:
            message = self._next(until, method)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def open(
        self, path: Path, width: int = 1280, height: int = 900, *, dark: bool = False, phone: bool = False
    ) -> Told:
        """Load a file; what it did. A phone heeds the page's viewport and has two dots to a pixel."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1 + phone, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self._told, self._loaded = Told([], []), False
        self.call("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + self._patience
        while not self._loaded:
            self._next(until, f"loading {path.name}")
        # Whatever a page does late is done after two frames.
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")
        return self._told

    def run(self, script: str) -> Any:
        """The value of a script in the page, waited for if it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, however long."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Ask it to go."""
        self._session = None
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._patience)

    def _next(self, until: float, what: str) -> dict[str, Any]:
        """The next message. Those that nobody asked for are noted here."""
        stream = self._process.stdout
        assert stream
        while b"\0" not in self._pending:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{what}: no answer within {self._patience:g} s"
            chunk = os.read(stream.fileno(), 1 << 16)
            assert chunk, f"{what}: the browser is gone"
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        messages, requests = self._told
        match event:
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                messages.append(" ".join(str(value.get("value", value)) for value in params["args"]))
            case "Runtime.exceptionThrown":
                messages.append(params["exceptionDetails"]["text"])
            case "Log.entryAdded":
                messages.append(params["entry"]["text"])
            case "Audits.issueAdded":
                messages.append(params["issue"]["code"])


@contextlib.contextmanager
def browser(folder: Path, patience: float = 30) -> Iterator[Browser]:
    """A browser that is ours alone; what it keeps is kept in the folder."""
    assert CHROMIUM
    flags = [*_FLAGS, f"--user-data-dir={folder}", *["--no-sandbox"] * (os.geteuid() == 0)]
    process = subprocess.Popen(
        ["/bin/sh", "-c", _ON_3_AND_4, "sh", CHROMIUM, *flags, "about:blank"],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"HOME": str(folder), "TZ": "UTC"},
    )
    try:
        one = Browser(process, patience)
        yield one
        one.close()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: nobody else is in it
            process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream
            stream.close()
