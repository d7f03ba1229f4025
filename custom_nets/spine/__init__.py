# SPDX-License-Identifier: Apache-2.0
"""What SpineParseNet's two stages need around their networks: samples, augmentation, stored logits, order checks."""
