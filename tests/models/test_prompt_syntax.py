# SPDX-License-Identifier: Apache-2.0
"""A1111's syntax of prompts: weights, BREAK, escaped brackets, and texts that change between steps."""

from itertools import groupby

import pytest
from diffusion_engine.errors import RequestError
from diffusion_engine.prompt_syntax import joins_prompts, sections, texts_of_steps
from hypothesis import given, settings
from hypothesis import strategies as st

# The first seven are the examples of A1111's documentation.
WEIGHTED: dict[str, list[tuple[str, float]]] = {
    "normal text": [("normal text", 1)],
    "an (important) word": [("an ", 1), ("important", 1.1), (" word", 1)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "": [],
    "[word]": [("word", 1 / 1.1)],
    "(a red [blue] fish:1.5)": [("a red ", 1.5), ("blue", 1.5 / 1.1), (" fish", 1.5)],
    "(spaces: 1.2 )": [("spaces", 1.2)],
    "(negative:-0.5) (zero:0)": [("negative", -0.5), (" ", 1), ("zero", 0)],
    "ratio 16:9, (16:9 picture:1.1)": [("ratio 16:9, ", 1), ("16:9 picture", 1.1)],
    "stray ) and ] and :1.3)": [("stray ) and ] and :1.3)", 1)],
    "(not a number:1.2.3)": [("not a number:1.2.3", 1.1)],
    "back\\slash": [("backslash", 1)],
}
# With ten steps: the last step of each text. All but the last are the examples of A1111's documentation.
CHANGING: dict[str, list[tuple[int, str]]] = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[a|(b:1.1)]": [(step, "(b:1.1)" if step % 2 == 0 else "a") for step in range(1, 11)],
    "[fe|]male": [(step, "male" if step % 2 == 0 else "female") for step in range(1, 11)],
    "[mountain:lake:0.25] [oak:tree:0.75][ front::0.6][: back:0.25]": [
        (2, "mountain oak front"),
        (6, "lake oak front back"),
        (7, "lake oak back"),
        (10, "lake tree back"),
    ],
    r"[a\|b] and [c\:d:0.5]": [(5, r"[a\|b] and "), (10, r"[a\|b] and c\:d")],
}
# Characters that are likely to confuse the parser.
prompts = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["(", ")", "[", "]", ":", "|", "\\", "a", " b", "1.2", ":9)", "BREAK", ":.5]"])).map(
        "".join
    ),
)


@pytest.mark.parametrize("text", WEIGHTED)
def test_weights(text: str) -> None:
    (section,) = sections(text, "a1111")
    assert [fragment.text for fragment in section] == [part for part, _ in WEIGHTED[text]]
    assert [fragment.weight for fragment in section] == pytest.approx([weight for _, weight in WEIGHTED[text]])


def test_break_begins_a_section_and_keeps_the_weight() -> None:
    parsed = [[tuple(each) for each in part] for part in sections("a house BREAK (a red BREAK roof:1.5)BREAK", "a1111")]
    assert parsed == [[("a house", 1)], [("", 1), ("a red", 1.5)], [("roof", 1.5), ("", 1)], [("", 1)]]
    assert len(sections("BREAKFAST, break", "a1111")) == 1


@pytest.mark.parametrize("text", CHANGING)
def test_texts_of_steps(text: str) -> None:
    texts = texts_of_steps(text, "a1111", 10)
    ends = [(list(steps)[-1], part) for part, steps in groupby(range(1, 11), key=lambda step: texts[step - 1])]
    assert [(end, part) for end, part in ends] == CHANGING[text]


@pytest.mark.parametrize("text", [*WEIGHTED, *CHANGING, "a BREAK b AND c"])
def test_plain_text_has_no_syntax(text: str) -> None:
    assert sections(text, "plain") == [[(text, 1.0)]]
    assert texts_of_steps(text, "plain", 3) == [text] * 3
    assert not joins_prompts(text, "plain")


def test_and_joins_prompts() -> None:
    assert joins_prompts("a cat AND a dog", "a1111")
    assert not joins_prompts("BRAND, sand and ANDES", "a1111")


@settings(max_examples=50)
@given(prompts, st.integers(1, 30))
def test_any_text_can_be_parsed(text: str, num_steps: int) -> None:
    texts = texts_of_steps(text, "a1111", num_steps)
    assert len(texts) == num_steps
    for each in texts:
        assert sections(each, "a1111")


def test_deeply_nested_brackets_are_parsed_in_time() -> None:
    """Beyond the limit they are text, instead of taking minutes or exceeding Python's recursion limit."""
    for text in ("(a" * 2000, "[" * 2000 + "|]" * 1000, "[a:b:1" * 1000):
        for each in set(texts_of_steps(text, "a1111", 3)):
            assert sections(each, "a1111")


@pytest.mark.parametrize(
    "text", [" " * 10_000, "(a:" + " " * 9_990, ":" + "1" * 9_990, "[a:" + "1" * 9_990 + "x]", "[a:" + "9" * 9_990]
)
def test_long_prompts_take_no_quadratic_time(text: str) -> None:
    """With backtracking, some of these take minutes."""
    assert texts_of_steps(text, "a1111", 100) == [text] * 100
    assert "".join(fragment.text for fragment in sections(text, "a1111")[0]) == text.strip("([]")


def test_a_prompt_with_too_many_changes_is_rejected() -> None:
    assert len(texts_of_steps("[a|[b|c]]" * 50, "a1111", 100)) == 100
    with pytest.raises(RequestError, match="has 2000 parts that change between steps; at most 100"):
        texts_of_steps("[a|b]" * 2_000, "a1111", 100)
