# SPDX-License-Identifier: Apache-2.0
"""Commands: `python -m tools.<verb>`."""
