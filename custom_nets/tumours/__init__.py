# SPDX-License-Identifier: Apache-2.0
"""Brain tumours: the parts that are labelled, the overlapping regions that are scored, and what cleans a prediction."""
