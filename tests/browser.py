"""A headless Chromium, spoken to over its pipe (Chrome DevTools Protocol): open a page, ask it, look at it."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
PATIENCE_S = 60


class Browser:
    """One page of one browser. `errors` holds what it complained of: exceptions, refused contents, failed loads."""

    def __init__(self, dark=False, width=1280, height=900):
        self.folder = tempfile.mkdtemp(prefix="browser-", dir="/var/tmp")
        ours, theirs = os.pipe(), os.pipe()  # what it reads as descriptor 3, what it writes as 4
        place = ["bash", "-c", f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}', "bash"]
        self.process = subprocess.Popen(
            [*place, PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
             "--no-first-run", "--disable-background-networking", f"--user-data-dir={self.folder}", "about:blank"],
            pass_fds=(ours[0], theirs[1]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": self.folder}, start_new_session=True)
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from, self._rest, self._number, self._session = ours[1], theirs[0], b"", 0, None
        self.errors = []
        page = next(one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for name in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{name}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.dark(dark)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._to)
        os.close(self._from)
        deadline = time.monotonic() + PATIENCE_S
        while os.path.exists(self.folder) and time.monotonic() < deadline:  # its helpers may write a moment longer
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.05)

    def send(self, method, **parameters):
        """One command; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"the browser does not answer {method}"
            while b"\0" in self._rest:
                one, _, self._rest = self._rest.partition(b"\0")
                answer = json.loads(one)
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer
                    return answer["result"]
                self._heard(answer)
            if select.select([self._from], [], [], 1)[0]:
                data = os.read(self._from, 1 << 20)
                assert data, "the browser has ended"
                self._rest += data

    def _heard(self, event):
        what = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(what["exceptionDetails"].get("exception", {}).get("description", "") or what["exceptionDetails"]["text"])
        elif event.get("method") == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.errors.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")
        elif event.get("method") == "Runtime.consoleAPICalled" and what["type"] == "error":
            self.errors.append(str(what["args"]))

    def dark(self, on):
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def open(self, url):
        self.send("Page.navigate", url=url)

    def ask(self, script):
        """The value of an expression, awaited."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script, seconds=PATIENCE_S):
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := self.ask(script):
                    return found
            except AssertionError:  # between two pages
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, f"never true: {script}; {self.errors}; {self.ask('document.body.innerText')}"
            time.sleep(0.05)

    def text(self, selector="body"):
        return self.ask(f"document.querySelector({json.dumps(selector)}).innerText")

    def picture(self, path):
        """All of the page as a PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
