# SPDX-License-Identifier: Apache-2.0
"""Tests with a real MONAI Label server, in its own environment: `make test-label`."""
