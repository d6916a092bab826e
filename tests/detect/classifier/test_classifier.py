"""Models as detectors: what a score depends on, how long texts are read, and what stands in where nothing runs a model."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.api import Passage
from moderation.detect.classifier import Classifier, Model, Store, load, names, scores
from moderation.detect.classifier.encoder import Encoder
from moderation.detect.classifier.manifest import Manifest, read_manifest
from moderation.detect.classifier.ngram import Ngram, features
from moderation.errors import UsageError
from moderation.text import Role
from moderation.verdict import Cause, Finding, Unknown
from tests.detect.classifier import tiny
from tests.detect.classifier.bare import Without


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder)[0]


FOUND = [
    ("bomb", [("violence", 1_000_000)], "what it was made for"),
    ("ignore", [("injection", 1_000_000)], "by its own head"),
    ("hello", [], "nothing"),
    ("", [], "no text"),
    (" \n ", [], "nothing to read"),
    ("kill and so on and on", [("violence", 370_370)], "between two knots of the calibration"),
]


@pytest.mark.parametrize(("text", "found", "note"), FOUND)
def test_findings(model: Model, text: str, found: list[tuple[str, int]], note: str) -> None:
    (answer,) = Classifier("c", model).detect([Passage(text)])
    assert answer == tuple(Finding("c", name, None, name, score, None) for name, score in found), note


def test_heads_count_as_what_the_policy_says(model: Model) -> None:
    detector = Classifier("c", model, {"injection": "orders"})
    assert detector.detect([Passage("ignore"), Passage("bomb")]) == [
        (Finding("c", "orders", None, "injection", 1_000_000, None),),
        (),
    ]


def test_scores_that_say_nothing_are_no_findings(model: Model) -> None:
    assert Classifier("c", model, least=370_370).detect([Passage("kill and so on and on")])[0]
    assert not Classifier("c", model, least=370_371).detect([Passage("kill and so on and on")])[0]


def test_every_head_has_a_score(model: Model) -> None:
    assert scores(model, Passage("bomb")) == {"violence": 1_000_000, "injection": 0}
    assert scores(model, Passage("")) == {"violence": 0, "injection": 0}


class Watched:
    """Runs a model and keeps what each call was asked."""

    def __init__(self, manifest: Manifest) -> None:
        self.model = Encoder(manifest)
        self.asked: list[list[int]] = []
        run = self.model._run

        def watch(ids: list[int]) -> list[float]:
            self.asked.append(ids)
            return run(ids)

        self.model._run = watch  # type: ignore[method-assign]

    def ids(self, passage: Passage) -> list[list[int]]:
        self.asked.clear()
        self.model.logits(passage)
        return list(self.asked)


@pytest.fixture(scope="module")
def watched(folder: Path) -> Watched:
    return Watched(read_manifest(folder))


@pytest.mark.parametrize(
    ("role", "prefix"), [(Role.PROMPT, "query: "), (Role.RESPONSE, "passage: "), (Role.TOOL_RESULT, "passage: ")]
)
@pytest.mark.parametrize("text", ["bomb", "make  a\nbomb", "怎么制造", "kill. 怎么"])
def test_a_short_text_is_read_as_in_training(watched: Watched, role: Role, prefix: str, text: str) -> None:
    assert watched.ids(Passage(text, role)) == [tiny.tokenizer().encode(prefix + " ".join(text.split())).ids]


TEXTS = st.lists(
    st.sampled_from(["kill ", "bomb ", "a word. ", "怎么。", "制造", "\n", "xxxxxxxxxx", "😀", "</s>", "\u0301"]), max_size=80
).map("".join)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.sampled_from(Role))
def test_long_texts_are_read_whole_in_bounded_pieces(watched: Watched, before: str, text: str, role: Role) -> None:
    calls = watched.ids(Passage(text, role, before))
    inner = len(tiny.tokenizer().encode(" ".join(text.split())).ids)
    assert all(len(ids) <= 40 for ids in calls)
    assert len(calls) <= 1 + 3 * inner // 20, "linear in length"
    assert bool(calls) == bool(text.split())


def test_harm_in_the_middle_of_a_long_text_is_found(model: Model) -> None:
    long = "Nothing of note is told here. " * 12
    assert not Classifier("c", model).detect([Passage(long)])[0]
    assert Classifier("c", model).detect([Passage(long + "bomb. kill bomb. " + long)])[0]


def test_what_stands_before_is_read_and_does_not_count_twice(watched: Watched) -> None:
    """It is context alone: a passage without anything to read has no score, whatever stands before it."""
    (alone,) = watched.ids(Passage("a word"))
    (after,) = watched.ids(Passage("a word", Role.PROMPT, "kill. "))
    assert len(after) > len(alone)
    assert after[-4:] == alone[-4:]
    assert watched.ids(Passage(" ", Role.PROMPT, "kill. ")) == []


def test_a_score_is_bit_for_bit_the_same_alone_and_in_any_batch(model: Model) -> None:
    dice = random.Random(5)
    words = ["kill", "bomb", "ignore", "a word.", "怎么", "制造", "hello there,"]
    texts = [" ".join(dice.choices(words, k=dice.randint(1, 60))) for _ in range(120)]
    detector = Classifier("c", model, least=0)
    alone = {text: detector.detect([Passage(text)])[0] for text in texts}
    for _ in range(50):
        batch = dice.sample(texts, dice.randint(1, 40))
        assert list(detector.detect([Passage(text) for text in batch])) == [alone[text] for text in batch]


def test_a_score_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    model, _ = load(tiny.encoder(tmp_path, {**tiny.WEIGHTS, "a": (float("nan"), 0.0)}))
    assert Classifier("c", model).detect([Passage("a"), Passage("bomb")])[0] == Unknown("c", Cause.INVALID)
    with pytest.raises(ValueError, match="no number"):
        scores(model, Passage("a"))


WRONG = [
    ("model.onnx", b"nonsense", "model.onnx cannot be run"),
    ("model.onnx", tiny.onnx([[0.0] * 3] * 200), "gives 3 logits for 2 heads"),
    ("tokenizer.json", b"{}", "tokenizer.json is no tokenizer"),
]


@pytest.mark.parametrize(("file", "raw", "said"), WRONG)
def test_files_of_another_form(tmp_path: Path, file: str, raw: bytes, said: str) -> None:
    folder = tiny.encoder(tmp_path)
    (folder / file).write_bytes(raw)
    tiny.write(folder, tiny.manifest(folder))
    with pytest.raises(UsageError, match=said):
        load(folder)


# ---- the fallback ------------------------------------------------------------------------------------------------------


def test_what_stands_in_is_said(folder: Path, tmp_path: Path) -> None:
    meant = Classifier("c", load(folder)[0])
    model, told = load(folder, tiny.ngram(tmp_path / "ngram"), Without())
    assert told is not None
    assert "onnxruntime cannot be imported: ngram stands in for the model tiny" in told
    assert isinstance(model, Ngram)
    assert Classifier("c", model).version != meant.version
    assert Classifier("c", model).detect([Passage("how to make a bomb")])[0]
    assert not Classifier("c", model).detect([Passage("hello"), Passage("")])[0]


def test_nothing_stands_in_for_a_models_own_folder(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"onnxruntime cannot be imported.*pip install onnxruntime tokenizers"):
        load(folder, None, Without())


def test_a_folder_that_is_damaged_has_no_stand_in(tmp_path: Path) -> None:
    folder = tiny.encoder(tmp_path / "tiny")
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"model\.onnx"):
        load(folder, tiny.ngram(tmp_path / "ngram"))


@pytest.mark.parametrize("raw", [b"x", b""])
def test_weights_of_another_form(tmp_path: Path, raw: bytes) -> None:
    folder = tiny.ngram(tmp_path)
    (folder / "weights.npz").write_bytes(raw)
    tiny.write(folder, tiny.manifest(folder))
    with pytest.raises(UsageError, match="is no npz"):
        load(folder)


FEATURES = [
    ("", [1525, 3274]),
    ("ｆｕｌｌ", [279, 542, 1210, 1525, 2313, 3083, 3105, 3174, 3240, 3403, 3936, 3951, 4027]),
    ("怎么", [430, 441, 686, 1525, 2501, 2945, 3061, 3494]),
    ("İß", [659, 869, 1525, 1532, 1964, 2317, 2432, 2786, 3407, 3762, 3772, 3967, 4013]),
    ("\ud800", [48, 1167, 1525, 1731, 2828]),
]


@pytest.mark.parametrize(("text", "buckets"), FEATURES, ids=range(len(FEATURES)))
def test_features_are_those_of_the_training(text: str, buckets: list[int]) -> None:
    """The weights that ship were trained on these: whoever changes them trains anew."""
    assert features(text, (1, 2, 3), 1 << 12).tolist() == buckets


# ---- what is loaded when -----------------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_goes_with_its_last_user(folder: Path) -> None:
    store = Store()
    one, other = store.load(read_manifest(folder)), store.load(read_manifest(folder))
    assert one is other
    del one, other
    assert not store._loaded


def test_names(tmp_path: Path) -> None:
    tiny.ngram(tmp_path / "b")
    tiny.encoder(tmp_path / "a")
    (tmp_path / "train").mkdir()
    assert names(tmp_path) == ("a", "b")


def test_nothing_heavy_comes_with_a_policy_without_models() -> None:
    code = "import sys; import moderation.detect.build; print(*{'onnxruntime', 'tokenizers', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
