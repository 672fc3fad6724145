"""What a refusal says of a value, and which choice or setting it takes for the one that was meant."""

import pytest

from autodisp.config.checks import nearest, nearest_setting, printable, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), ("", "''"), ([1, None], "[1, null]"), ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        (0.5, "0.5"), ("é", "é"), ("x" * 90, "x" * 80 + "..."), ("\udc80", "\\udc80"),
    ],
)  # fmt: skip
def test_a_value_is_shown_in_one_line(value: object, text: str) -> None:
    assert shown(value) == text
    assert printable(text) == text


@pytest.mark.parametrize(
    ("word", "near"), [("sgdd", "sgd"), ("SGD", "sgd"), ("adma", "adamw"), ("", None), ("qqqq", None)]
)
def test_the_nearest_choice(word: str, near: str | None) -> None:
    assert nearest(word, ["sgd", "adamw"]) == near


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("run.folde", "run.folder"), ("folder", "run.folder"), ("rum.folder", "run.folder"),
        ("rum.device", "run.device"),
        ("size", "a.size or b.size"), ("runn", "run"), ("qqqq", None), ("qqqq.zzzz", None),
        ("o.lr", "o.w.learning_rate or o.a.learning_rate"), ("run.lr", "o.w.learning_rate or o.a.learning_rate"),
        ("o.a.LR", "o.a.learning_rate"), ("run.qqq", None), ("space.file", "space_file"),
        ("o.learningrate", "o.w.learning_rate or o.a.learning_rate"),
    ],
)  # fmt: skip
def test_the_nearest_setting(key: str, near: str | None) -> None:
    settings = ["run", "run.folder", "run.device", "a", "a.size", "b", "b.size", "o", "o.w", "o.w.learning_rate", "o.a",
                "o.a.learning_rate", "space_file"]  # fmt: skip
    assert nearest_setting(key, settings) == near
