# SPDX-License-Identifier: Apache-2.0
"""Demo data that need no download: synthetic patients, painted from a seed, for each bundle.

They show that a pipeline runs and learns. They say nothing about accuracy on patients.
"""

from __future__ import annotations

from custom_nets.phantoms.case import Generator, PhantomCase
from custom_nets.phantoms.writing import GENERATORS, make_case, write_dataset

__all__ = ["GENERATORS", "Generator", "PhantomCase", "make_case", "write_dataset"]
