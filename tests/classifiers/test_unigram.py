"""Trimming a Unigram vocabulary: what stays, and that what stays cuts texts as before."""

from __future__ import annotations

from typing import Any

import pytest

from classifiers.train.unigram import SPECIALS, kept, trimmed, used_ids

VOCABULARY = [
    *((name, 0.0) for name in SPECIALS),
    ("▁the", -3.0),
    ("▁casa", -4.0),
    ("привет", -5.0),
    ("杀人", -6.0),
    ("हिन्दी", -6.5),
    ("Haus", -7.0),
    ("rare", -8.0),
    ("ж", -9.0),
    ("Ｋ", -9.0),
    ("क", -9.0),
    ("!?", -9.0),
    ("▁", -9.0),
    ("🔪", -9.0),
    ("a1", -9.5),
    ("<mask>", 0.0),
]
NUMBERS = {piece: number for number, (piece, _) in enumerate(VOCABULARY)}


def tokenizer() -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": NUMBERS[name], "content": name, "special": True} for name in (*SPECIALS, "<mask>")],
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [list(one) for one in VOCABULARY]},
    }


@pytest.mark.parametrize(
    ("piece", "stays", "note"),
    [
        ("<s>", True, "a special"),
        ("▁the", True, "among the two most frequent Latin pieces"),
        ("▁casa", True, "among the two most frequent Latin pieces"),
        ("Haus", False, "the third Latin piece"),
        ("rare", True, "comes in the corpus"),
        ("привет", False, "Cyrillic words can be spelt"),
        ("ж", True, "single letters of Cyrillic spell them"),
        ("杀人", True, "Han"),
        ("Ｋ", True, "a full-width letter"),
        ("हिन्दी", False, "a script that is not served"),
        ("क", False, "nor are its letters"),
        ("!?", True, "no letter in it"),
        ("▁", True, "the space alone"),
        ("🔪", True, "an emoji"),
        ("<mask>", False, "nothing is masked"),
    ],
)
def test_what_stays(piece: str, stays: bool, note: str) -> None:
    assert (NUMBERS[piece] in kept(VOCABULARY, {NUMBERS["rare"]}, 2)) == stays, note


def test_the_mask_goes_even_when_the_corpus_holds_it() -> None:
    assert NUMBERS["<mask>"] not in kept(VOCABULARY, {NUMBERS["<mask>"]}, 2)


def test_trimmed_keeps_specials_numbers_and_scores() -> None:
    ids = kept(VOCABULARY, set(), 2)
    made = trimmed(tokenizer(), ids)
    assert [name for name, _ in made["model"]["vocab"][:4]] == list(SPECIALS)
    assert made["model"]["unk_id"] == 3
    assert made["model"]["vocab"] == [list(VOCABULARY[i]) for i in ids]
    assert [one["content"] for one in made["added_tokens"]] == list(SPECIALS)
    assert len(tokenizer()["model"]["vocab"]) == len(VOCABULARY)


def test_without_its_specials_in_front_it_is_refused() -> None:
    with pytest.raises(ValueError, match="specials"):
        trimmed(tokenizer(), [0, 2, 1, 3, 4])


def test_ids_are_counted() -> None:
    assert used_ids(iter([[1, 2, 1], [2]])) == {1: 2, 2: 2}


def test_a_text_whose_pieces_stay_is_cut_as_before_and_another_is_spelt() -> None:
    import json

    import tokenizers

    letters = [(letter, -10.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    whole = tokenizer()
    whole["model"]["vocab"] = [*([a, b] for a, b in VOCABULARY[:-1]), *([a, b] for a, b in letters)]
    whole["added_tokens"] = whole["added_tokens"][:4]
    for one in whole["added_tokens"]:
        one |= {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    whole |= {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    vocabulary = [(a, b) for a, b in whole["model"]["vocab"]]
    short = trimmed(whole, kept(vocabulary, {NUMBERS["rare"]}, 2))
    before, after = (tokenizers.Tokenizer.from_str(json.dumps(one)) for one in (whole, short))
    for text in ("▁the▁casarare杀人ж", "▁the🔪zz"):
        assert after.encode(text).tokens == before.encode(text).tokens
    assert before.encode("Haus").tokens == ["Haus"]
    assert after.encode("haus").tokens == list("haus")
