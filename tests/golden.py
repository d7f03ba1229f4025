# SPDX-License-Identifier: Apache-2.0
"""Deterministic weights and inputs for comparing two implementations of one network.

Every array is a function of a name alone, so two programs that agree on the names of a
checkpoint's entries agree on their values without exchanging them.
"""

import zlib

import numpy as np


def draw(name, shape, salt=""):
    """Standard-normal float64 array of `shape`, seeded by crc32(salt + name)."""
    rng = np.random.RandomState(zlib.crc32((salt + name).encode("utf-8")))
    return rng.standard_normal(size=shape)


def weight(key, shape, salt=""):
    """Value of the checkpoint entry `key`; the rule depends on the key's last part and on ndim."""
    shape = tuple(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if last == "running_mean":
        return (0.1 * draw(key, shape, salt)).astype(np.float32)
    if last == "running_var":
        return (1.0 + 0.1 * np.abs(draw(key, shape, salt))).astype(np.float32)
    if len(shape) == 0:
        return np.float32(0.5)
    if len(shape) == 1:
        centre = 1.0 if last == "weight" else 0.0
        return (centre + 0.1 * draw(key, shape, salt)).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (draw(key, shape, salt) / np.sqrt(fan_in)).astype(np.float32)


def image(shape, salt=""):
    """Input image, float32 standard normal."""
    return draw("input", shape, salt).astype(np.float32)
