"""What a file says of itself becomes one line, whatever it says."""

import pytest

from autodisp.errors import in_one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("  a  b ", "a  b"),
        ("first\n  second\r\nthird\t4", "first second third 4"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("\ud800", "\\ud800"),
        ("Größe 😀", "Größe 😀"),
        ("\n", ""),
        (ValueError("a\nb"), "a b"),
        (None, "None"),
    ],
)
def test_one_line(text: object, shown: str) -> None:
    assert in_one_line(text) == shown


def test_long_texts_are_cut() -> None:
    assert in_one_line("x" * 10, at_most=10) == "x" * 10
    assert in_one_line("x" * 11, at_most=10) == "x" * 10 + "..."
    assert in_one_line("\n" * 10**6 + "x") == "x"
