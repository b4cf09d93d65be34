"""A chromium without a window that is told what to do through two pipes, as its DevTools are."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


class Browser:
    """One page of a browser; to be used in a `with` block."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4: ours must not be among them.
        high = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (theirs_in, theirs_out)]

        def place() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [str(CHROMIUM), *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL)
        for pipe in (theirs_in, theirs_out, *high):
            os.close(pipe)
        self._read = b""
        self._number = 0
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.send("Page.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, **parameters: Any) -> Any:
        """Ask for something and return what it gives."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda one: one.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def show(self, file: Path, width: int = 1280, *, dark: bool = False, paper: bool = False) -> None:
        """Open a page, and wait until it is there."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.send(
            "Emulation.setEmulatedMedia",
            media="print" if paper else "screen",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.send("Page.navigate", url=file.as_uri())
        self._wait(lambda one: one.get("method") == "Page.loadEventFired")

    def leave_and_return(self) -> None:
        """Go to another page and back again."""
        self.send("Page.navigate", url="about:blank")
        self._wait(lambda one: one.get("method") == "Page.loadEventFired")
        history = self.send("Page.getNavigationHistory")
        before = history["entries"][history["currentIndex"] - 1]
        self.send("Page.navigateToHistoryEntry", entryId=before["id"])
        self._wait(lambda one: one.get("method") == "Page.loadEventFired")

    def value(self, script: str) -> Any:
        """Return what a script on the page gives; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, file: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            message, ended, rest = self._read.partition(b"\0")
            if not ended:
                more = os.read(self._from, 2**16)
                assert more, "the browser has ended"
                self._read += more
                continue
            self._read = rest
            content: dict[str, Any] = json.loads(message)
            if wanted(content):
                return content
