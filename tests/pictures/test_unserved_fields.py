# SPDX-License-Identifier: Apache-2.0
"""Notes about fields that are not served."""

import pytest

from fastapi_triton.pictures import unserved_fields
from fastapi_triton.pictures.unserved_fields import MAX_NOTES, Unserved, notes


def test_only_the_names_in_notes_are_compared_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may have ten thousand unknown fields, and each comparison takes 100 microseconds on the event loop."""
    compared: list[str] = []

    def closest(name: str, _: object) -> None:
        compared.append(name)

    monkeypatch.setattr(unserved_fields, "closest", closest)
    found = notes({f"field{number}": 1 for number in range(1000)}, {}, ["prompt"])
    assert len(compared) == MAX_NOTES
    assert found[-1] == f"{1000 - MAX_NOTES} more fields were ignored."


def test_a_neutral_value_needs_no_note_and_others_have_the_reason() -> None:
    unserved = {"eta": Unserved("only DDIM has it", (1,)), "styles": Unserved()}
    assert notes({"eta": 1, "styles": [], "user": None}, unserved, ()) == []
    (note,) = notes({"eta": 0.5}, unserved, ())
    assert note == "`eta` is 0.5, and was ignored: only DDIM has it."
    assert notes({"promt": "a"}, {}, ["prompt"]) == [
        "There is no field `promt`; did you mean `prompt`? It was ignored."
    ]
