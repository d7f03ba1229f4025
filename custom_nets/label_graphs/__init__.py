# SPDX-License-Identifier: Apache-2.0
"""Label sets whose labels touch one another in a known way: the anatomical graph that SpineParseNet reasons over."""
