# SPDX-License-Identifier: Apache-2.0
"""Commands of `python -m MODULE`, each in a fork of one process that has imported MONAI: that takes seconds.

``python -m tests.forked_commands`` reads orders, a line of JSON each: the words behind `python -m`, the working
directory, the files for what is printed and for errors. It answers each with the exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
#: Imported before the forks: what every run of a bundle needs, nothing of ours.
SHARED = ("monai.bundle", "monai.engines", "monai.handlers", "torch._dynamo", "torch.utils.tensorboard")


def python_m(module: str, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE WORDS ...` in a process of its own, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        told = [Path(folder, name) for name in ("out", "err")]
        order = {"words": [module, *words], "cwd": str(cwd), "told": [str(path) for path in told]}
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        try:
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
        except BaseException:  # a time-out: its answer would be taken for the next one's
            server.kill()
            _server.cache_clear()
            raise
        return subprocess.CompletedProcess([module, *words], status, *(path.read_text() for path in told))


@cache
def _server() -> subprocess.Popen[str]:
    """Ends with this process, as its orders do."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.forked_commands"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # in case it is not installed
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _do(words: list[str], cwd: str, told: list[str]) -> NoReturn:
    """In the place of a new interpreter, which has its working directory in front of its path."""
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    for stream, path in zip((sys.stdout, sys.stderr), told, strict=True):
        with Path(path).open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(cwd)
    sys.path[0] = cwd
    sys.argv[1:] = words[1:]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


def serve() -> None:
    for module in SHARED:
        importlib.import_module(module)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        process = os.fork()
        if process == 0:
            _do(**order)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
