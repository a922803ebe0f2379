"""Markdown blocks by offsets: what they are and where they stand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.text.markdown import body_start, find_blocks, find_headings, front_matter, plain_text, split_units

PAGE = """---
title: "Return policy"
subject: person-7
tags:
  - a
---
# Returns ##

You can return it. We pay
the postage.

- First item. With two sentences.
2. Second item

| Kind | Price |
| --- | ---: |
| Express | 12 euros |

```python
# not a heading
run(x)
```

> Quoted words.

Last words.
"""

BLOCKS = [
    ("heading", "Returns"),
    ("paragraph", "You can return it. We pay\nthe postage."),
    ("item", "First item. With two sentences."),
    ("item", "Second item"),
    ("row", "Kind | Price"),
    ("row", "Express | 12 euros"),
    ("code", "# not a heading"),
    ("code", "run(x)"),
    ("paragraph", "Quoted words."),
    ("paragraph", "Last words."),
]


def test_blocks_of_a_page() -> None:
    found = [(block.kind, PAGE[block.start : block.end]) for block in find_blocks(PAGE)]
    assert [pair for pair in found if pair[0] not in {"front", "rule"}] == BLOCKS


def test_front_matter_is_read_and_skipped() -> None:
    assert front_matter(PAGE) == {"title": "Return policy", "subject": "person-7", "tags": ""}
    assert PAGE[body_start(PAGE) :].startswith("# Returns")
    assert front_matter("no --- here") == {}


def test_a_hash_in_code_is_no_heading() -> None:
    assert [(heading.level, heading.text) for heading in find_headings(PAGE)] == [(1, "Returns")]


def test_units_are_sentences_items_rows_and_lines_of_code() -> None:
    units = [PAGE[span.start : span.end] for span, kind in split_units(PAGE) if kind != "heading"]
    assert units[:3] == ["You can return it.", "We pay\nthe postage.", "First item."]
    assert "Express | 12 euros" in units


PLAIN = [
    pytest.param("See [the guide](docs/a.md) now", "See the guide now", id="a link becomes its words"),
    pytest.param("**Bold** and `code`", "Bold and code", id="marks go"),
    pytest.param("![picture](x.png) ok", "picture ok", id="an image becomes its description"),
    pytest.param("2 * 3 * 4 [a] (b)", "2 * 3 * 4 [a] (b)", id="what is no mark stays"),
]


@pytest.mark.parametrize(("text", "expected"), PLAIN)
def test_plain_text(text: str, expected: str) -> None:
    assert plain_text(text) == expected


@given(st.text(alphabet=st.sampled_from("ab #-|`>\n*1.~"), max_size=120))
def test_any_text_gives_blocks_in_order_inside_it(text: str) -> None:
    blocks = find_blocks(text)
    assert all(0 <= block.start < block.end <= len(text) for block in blocks)
    assert all(before.end <= after.start for before, after in pairwise(blocks))
