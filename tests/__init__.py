# SPDX-License-Identifier: Apache-2.0
"""Tests; a package so that `tests.reference` can be imported from the repository root."""
