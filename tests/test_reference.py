"""Every configuration key is described once, in the file that has it."""

from __future__ import annotations

import pytest
from conftest import ROOT

from minesweep.config.kinds import allowed, read_note
from minesweep.config.schema import reference

KEYS = [(f"{group}={name}", key) for group, name, _, keys in reference() for key in keys]


def test_the_reference_has_every_choice_and_key() -> None:
    files = {
        path
        for path in (ROOT / "conf").rglob("*.yaml")
        if path.relative_to(ROOT / "conf").parts[0] not in ("experiment", "debug")
    }
    assert len(list(reference())) == len(files)
    assert {"trainer.batch_size", "seed", "miner.k", "miner.start", "dataset.views.jitter.hue"} <= {
        key.path for _, key in KEYS
    }


@pytest.mark.parametrize("choice", sorted({choice for choice, _ in KEYS}))
def test_every_key_has_a_comment_and_a_type(choice: str) -> None:
    for key in (key for where, key in KEYS if where == choice):
        assert key.comment, f"{choice}: write a comment above {key.path}"
        assert key.kinds, f"{choice}: {key.path} needs a note, such as # int >= 1"


def test_the_defaults_are_allowed() -> None:
    for choice, key in KEYS:
        if not key.is_group and "${" not in str(key.default):
            assert key.allows(key.default), (
                f"{choice}: {key.path}: {key.default} must be {key.allowed}"
            )


@pytest.mark.parametrize(
    ("note", "words", "right", "wrong"),
    [
        ("int >= 1", "a whole number of at least 1", [1, 7], [0, 1.0, True, "1", None]),
        ("float in (0, 1] or null", "a number in (0, 1] or null", [1, 0.5, None], [0, 1.1, "1"]),
        ("float > 0", "a number above 0", [1e-9], [0, float("inf"), float("nan"), -1]),
        ("bool", "true or false", [True, False], ["no", 0, 1, None]),
        ("a | b", "one of a, b", ["a"], ["c", None, True]),
        ("32 | bf16", "one of 32, bf16", [32, "32", "bf16"], [16, 32.5]),
        ("list of 2 float in [0, 1)", "a list of 2, each a number in [0, 1)", [[0, 0.9]], [[0]]),
        ("range of float in [0, 1]", "[low, high], each a number in [0, 1]", [[0, 1]], [[1, 0]]),
        ("text or list of text or null", "text or a list, each text or null", ["a", ["a"]], [1]),
        ('int >= 1 or "auto"', "a whole number of at least 1 or auto", [3, "auto"], ["aut", 0]),
        ("mapping or null", "a mapping or null", [{}, None], ["None", True, []]),
    ],
)
def test_what_a_note_allows(note: str, words: str, right: list, wrong: list) -> None:
    kinds = read_note(note)
    assert allowed(kinds) == words
    assert all(any(kind.allows(value) for kind in kinds) for value in right)
    assert not any(kind.allows(value) for value in wrong for kind in kinds)


@pytest.mark.parametrize("comment", ["as in the paper", "int of apples", "this or null", ""])
def test_other_comments_are_no_notes(comment: str) -> None:
    assert read_note(comment) == ()
