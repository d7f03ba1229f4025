# SPDX-License-Identifier: Apache-2.0
"""A MONAI Label server in a process of its own, and requests to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from custom_nets.registry import ROOT

#: The environment's Python, which `make test-label` names.
PYTHON = Path(os.environ.get("LABEL_PYTHON", ROOT / ".venv-label" / "bin" / "python"))
#: Seconds to start, to answer, and to train. An idle machine needs a tenth.
START, ANSWER, TRAINING = 240, 120, 240


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        url: where.
        app: its application's folder.
        log: what it says.
    """

    url: str
    app: Path
    log: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json", **query: str
    ) -> Any:
        """Send one request; JSON is read, anything else returned as bytes."""
        address = f"{self.url}{path}?{urlencode(query)}" if query else f"{self.url}{path}"
        request = Request(address, data=body, method=method, headers={"Content-Type": kind} if body else {})
        try:
            with urlopen(request, timeout=ANSWER) as answer:
                content = answer.read()
                return json.loads(content) if answer.headers.get_content_type() == "application/json" else content
        except HTTPError as error:
            raise AssertionError(f"{method} {address}: {error.code} {error.read()[:500]!r}\n{self.said()}") from error

    def infer(self, model: str, image: str, path: Path, **params: Any) -> Path:
        """Write the label map of an image of the studies to ``path``."""
        body, kind = form({"params": json.dumps({"device": "cpu", **params})})
        path.write_bytes(self.ask("POST", f"/infer/{model}", body, kind, image=image, output="image"))
        return path

    def submit(self, image: str, label: Path) -> None:
        """Submit a finished label, as the viewers do."""
        body, kind = form({"params": "{}"}, {"label": label})
        self.ask("PUT", "/datastore/label", body, kind, image=image, tag="final")

    def train(self, model: str, *, done: str = "DONE", **params: Any) -> list[str]:
        """Train until it is done, or whatever else it ends with; return the last lines of its log."""
        self.ask("POST", f"/train/{model}", json.dumps(params).encode())
        end = time.monotonic() + TRAINING
        while (task := self.ask("GET", "/train/"))["status"] in ("SUBMITTED", "RUNNING"):
            assert time.monotonic() < end, f"the training of {model} takes too long\n{self.said()}"
            time.sleep(0.5)
        assert task["status"] == done, f"{task}\n{self.said()}"
        return task["details"]

    def said(self) -> str:
        """The end of what the server has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-6000:]


def form(fields: Mapping[str, str], files: Mapping[str, Path] | None = None) -> tuple[bytes, str]:
    """A multipart form, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', text.encode()) for name, text in fields.items()]
    parts += [(f'name="{name}"; filename="{file.name}"', file.read_bytes()) for name, file in (files or {}).items()]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@contextmanager
def serving(bundles: Sequence[str | Path], studies: Path, app: Path, *options: str) -> Iterator[Server]:
    """Start a server as its users do, on a port of its own, and stop it."""
    log = app.with_suffix(".log")
    port = free_port()
    words = [PYTHON, "-W", "ignore", "-m", "tools.label_server", ",".join(map(str, bundles)), studies]
    words += ["--app", app, "--port", str(port), *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            words, cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"}, stdout=said, stderr=subprocess.STDOUT
        )
        server = Server(f"http://127.0.0.1:{port}", app, log)
        try:
            _await_start(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await_start(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended\n{server.said()}"
        try:
            urlopen(f"{server.url}/info/", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server does not start\n{server.said()}")
