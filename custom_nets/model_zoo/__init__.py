# SPDX-License-Identifier: Apache-2.0
"""Bundles on their way out: their rules, exported forms, and folders that run without this repository."""
