# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster for as long as a prediction lasts: one that runs already, or one of this machine's own processes."""

from __future__ import annotations

import logging
import math
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from custom_nets.errors import InputError

#: Before Ray is imported: nothing is reported to its makers, a worker without a GPU of Ray's keeps what it sees, and
#: the death of a worker, which is dealt with, is not told in a paragraph each time.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^A worker died or was killed",
}
#: Bytes of a local cluster's object store: only cases and results go through it.
_OBJECT_STORE = 100 * 2**20


def import_ray() -> Any:
    """The module ``ray``.

    Raises:
        InputError: it is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray, which is not installed: pip install -e '.[cluster]'") from None
    return ray


@contextmanager
def ray_cluster(workers: int, address: str | None = None) -> Iterator[Any]:
    """Be connected to a Ray cluster; a local one is started, and gone with all its processes and files afterwards.

    Args:
        workers: that are to run at the same time; a local cluster has room for them.
        address: of a running cluster, as ``ray.init`` takes it ("auto", "HOST:6379", "ray://HOST:10001"). None takes
            the variable RAY_ADDRESS, and without that starts a local cluster.

    Yields:
        The module ``ray``, connected. A program that was connected before stays so.

    Raises:
        InputError: Ray is missing, or there is no cluster of this Ray and Python at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with ExitStack() as leaving:
        if address == "local":
            files = leaving.enter_context(tempfile.TemporaryDirectory(prefix="ray_", ignore_cleanup_errors=True))
            options |= {"include_dashboard": False, "_temp_dir": files}
            options |= {"num_cpus": max(workers, cores()), "object_store_memory": _OBJECT_STORE}
        leaving.callback(ray.shutdown)
        try:
            _knock(address)
            with _temporary_files(options.get("_temp_dir")):
                ray.init(address=address, **options)
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"the Ray cluster {address!r} cannot be used ({reason}): check RAY_ADDRESS") from error
        yield ray


def _knock(address: str) -> None:
    """Raise an OSError where nobody listens: Ray itself tries for minutes and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _temporary_files(folder: str | None) -> Iterator[None]:
    """Processes that are started meanwhile have their temporary files there: a killed worker leaves its own behind."""
    before = os.environ.get("TMPDIR")
    if folder is not None:
        os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        if before is not None:
            os.environ["TMPDIR"] = before
        elif folder is not None:
            del os.environ["TMPDIR"]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(nodes: Sequence[dict[str, float]], workers: int) -> tuple[int, float]:
    """What each worker gets so that all find room, each on one machine.

    Args:
        nodes: the resources ("CPU", "GPU") of every machine of the cluster.
        workers: their number.

    Returns:
        Cores, which are also its threads, and GPUs: one, or a part of one where there are fewer than workers.

    Raises:
        InputError: the cluster has fewer cores than workers.
    """
    sizes = [int(node.get("CPU", 0)) for node in nodes]
    for each in range(max(sizes, default=0), 0, -1):
        if sum(size // each for size in sizes) >= workers:
            break
    else:
        raise InputError(f"--workers is {workers}, but the Ray cluster has {sum(sizes)} core(s): give as many at most")
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    return each, 1 / math.ceil(workers / gpus) if gpus else 0.0
