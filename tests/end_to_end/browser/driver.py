"""A headless Chromium, driven by chromedriver's own HTTP protocol (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.service import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # as root, and the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",  # so that every request that is seen is the page's
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def missing_programs() -> list[str]:
    """What has to be installed first; Debian has both."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


class Browser:
    """One window."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._session = session

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, f"/session/{self._session}{path}", json=body)
        value = answer.json()["value"]
        assert answer.is_success, value
        return value

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        return str(self._call("GET", "/url"))

    def find(self, css: str) -> list[str]:
        """The elements' ids."""
        return [found[ELEMENT] for found in self._call("POST", "/elements", {"using": "css selector", "value": css})]

    def text(self, css: str) -> str:
        """What is seen of the first such element."""
        return str(self._call("GET", f"/element/{self.find(css)[0]}/text"))

    def type_into(self, css: str, text: str) -> None:
        self._call("POST", f"/element/{self.find(css)[0]}/value", {"text": text})

    def click(self, css: str) -> None:
        self._call("POST", f"/element/{self.find(css)[0]}/click", {})

    def cookies(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "/cookie"))

    def forget_cookies(self) -> None:
        self._call("DELETE", "/cookie")

    def run(self, script: str) -> Any:
        """What a script of the test's answers, which no page's policy forbids."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def has_dialog(self) -> bool:
        answer = self._http.get(f"/session/{self._session}/alert/text")
        return answer.is_success

    def requests(self) -> list[str]:
        """Every address that was asked for since the last look."""
        entries = self._call("POST", "/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def console(self) -> list[str]:
        """What the browser complained of since the last look."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def look(self, *, width: int, dark: bool) -> None:
        """A window of this width, in a light or a dark room."""
        self._devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        self._devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """PNG of the whole page."""
        taken = self._devtools("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A window that is closed at the end, with a profile of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="prpm-browser-", ignore_cleanup_errors=True) as profile:
        environment = {**os.environ, "HOME": profile}
        with (Path(profile) / "driver.log").open("wb") as log:
            driver = subprocess.Popen(
                ["chromedriver", f"--port={port}", "--allowed-ips=127.0.0.1"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
                yield from _window(http, profile)
        finally:
            driver.terminate()
            driver.wait(10)


def _window(http: httpx.Client, profile: str) -> Iterator[Browser]:
    _wait_for(http)
    capabilities = {
        "browserName": "chrome",
        "goog:chromeOptions": {"args": [*ARGUMENTS, f"--user-data-dir={profile}/profile"]},
        "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        "unhandledPromptBehavior": "ignore",  # a dialog stays, so that a test sees it
    }
    answer = http.post("/session", json={"capabilities": {"alwaysMatch": capabilities}}).json()["value"]
    assert "sessionId" in answer, answer
    browser = Browser(http, answer["sessionId"])
    try:
        yield browser
    finally:
        http.delete(f"/session/{answer['sessionId']}")


def _wait_for(http: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/status").json()["value"]["ready"]:
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)
