# SPDX-License-Identifier: Apache-2.0
"""Segmenting a user's own scans with a bundle: opened once, run case by case, files that are whole or not there."""
