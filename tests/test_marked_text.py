# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from custom_nets.marked_text import markdown_table, marked, with_marked

TEXT = "a\n<!-- one -->\nx\ny\n<!-- /one -->\nb\n<!-- two --><!-- /two -->\n"


def test_what_stands_between_the_markers() -> None:
    assert marked(TEXT, "one") == "x\ny"
    assert marked(TEXT, "two") == ""
    assert marked(TEXT, "three") is None
    assert marked("<!-- one -->\nno end", "one") is None


def test_only_that_part_is_replaced_and_doing_so_again_changes_nothing() -> None:
    once = with_marked(TEXT, "two", r"\1 \g<0>")
    assert once == TEXT.replace("<!-- two --><!-- /two -->", "<!-- two -->\n\\1 \\g<0>\n<!-- /two -->")
    assert with_marked(once, "two", r"\1 \g<0>") == once
    assert marked(once, "two") == r"\1 \g<0>"
    assert with_marked(TEXT, "three", "z") == TEXT


def test_a_bar_in_a_cell_is_escaped() -> None:
    assert markdown_table(("a", "b"), [(1, "x|y")]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"
