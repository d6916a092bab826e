"""Any classifier of the transformers library as a window detector: of whole texts, or of the tokens in them (with spans).

The only place that imports transformers and torch, which are an extra, and only as a model is loaded. `folder` finds and
describes a model without either. Nothing is fetched, no code of a model's is run, no pickle is read. One text a call, on one
thread, so that a score depends on nothing else that is asked. Knows no policy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moderation.detect.api import Passage
from moderation.detect.transformer.folder import Folder, Of
from moderation.detect.transformer.tokens import Marked, joined
from moderation.errors import UsageError
from moderation.verdict import Cause, Finding, Unknown

MOST_TOKENS = 4096
"""In one call, where a model takes more; also where it does not say how many."""
_SHARED = 4
"""The part of a piece, one in so many, that the next piece reads again."""
_LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


class Model:
    """A loaded model. May be used from several threads at once."""

    def __init__(self, folder: Folder) -> None:
        """Raises UsageError where transformers and torch are not there, or the folder cannot be loaded."""
        try:
            import torch
            import transformers
            from safetensors import SafetensorError
        except ImportError as error:
            told = f"the engine transformers needs {error.name}, which is not installed: pip install 'moderation[transformers]'"
            raise UsageError(told) from None
        of = (
            transformers.AutoModelForTokenClassification
            if folder.of is Of.TOKENS
            else transformers.AutoModelForSequenceClassification
        )
        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()  # stderr is the operational log
        where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder.path, **where)
            # Floats as they were trained on: half precision is slow and differs on processors without it.
            self._model = of.from_pretrained(folder.path, use_safetensors=True, dtype=torch.float32, **where).eval()
        except (*_LOAD_ERRORS, SafetensorError) as error:
            raise UsageError(f"transformers cannot load it ({type(error).__name__})", str(folder.path)) from None
        if not self._tokenizer.is_fast:
            raise UsageError("its tokenizer tells no places in the text: it has no tokenizer.json", str(folder.path))
        self._torch = torch
        self.folder = folder
        self.runtime = f"transformers {transformers.__version__} torch {torch.__version__}"
        places = getattr(self._model.config, "max_position_embeddings", None)
        # Two less, for some count their positions from two on (RoBERTa and what comes of it).
        held = [self._tokenizer.model_max_length, MOST_TOKENS, *([places - 2] if isinstance(places, int) and places > 2 else [])]
        self._room = int(min(held))
        special = self._tokenizer.num_special_tokens_to_add()
        if self._room - special < 8:
            raise UsageError("it takes too few tokens for a text", str(folder.path))

    def rows(self, text: str) -> Iterator[tuple[list[tuple[int, int]], list[list[float]]]]:
        """For each piece of the text: where its tokens stand, and the probabilities of its labels, in a row a token.

        Of a whole text there is one row. (0, 0) is where a token stands that is not of the text.
        """
        room = self._room - self._tokenizer.num_special_tokens_to_add()
        given = self._tokenizer(
            text, truncation=True, max_length=self._room, stride=room // _SHARED, return_overflowing_tokens=True,
            return_offsets_mapping=True, return_attention_mask=True, padding=False,
        )  # fmt: skip
        torch = self._torch
        for ids, mask, places in zip(given["input_ids"], given["attention_mask"], given["offset_mapping"], strict=True):
            with torch.inference_mode():
                logits = self._model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask])).logits[0].double()
                found = torch.sigmoid(logits) if self.folder.many else torch.softmax(logits, -1)
            rows = found.tolist() if self.folder.of is Of.TOKENS else [found.tolist()]
            yield [(int(start), int(end)) for start, end in places], rows


class Transformer:
    """A model as a detector (detect/api.py, Windowed). It reads the passage alone: such models were trained on single texts."""

    batch = 1

    def __init__(self, id: str, model: Model, counts: Mapping[str, str], least: int) -> None:
        """`counts`: what labels count as, by label; others are not wanted. `least`: scores below it are no findings."""
        self.id = id
        self._model, self._counts, self._least = model, dict(counts), least
        folder = model.folder
        told = (folder.pin, folder.many, model.runtime, sorted(self._counts.items()), least)
        self.version = hashlib.sha256(repr(told).encode()).hexdigest()

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        return [self._one(passage.text) for passage in passages]

    def _one(self, text: str) -> tuple[Finding, ...] | Unknown:
        if not text.strip():
            return ()
        marked: dict[tuple[object, str], Marked] = {}
        for places, rows in self._model.rows(text):
            if not all(math.isfinite(chance) for row in rows for chance in row):
                return Unknown(self.id, Cause.INVALID)
            for one in self._found(text, places, rows):
                key = (one.span, one.label)
                marked[key] = max(marked.get(key, one), one, key=lambda each: each.chance)
        found = [
            Finding(self.id, self._counts[one.label], None, one.label, round(one.chance * 1_000_000), one.span)
            for one in marked.values()
            if one.label in self._counts and round(one.chance * 1_000_000) >= self._least
        ]
        return tuple(sorted(found, key=lambda one: (one.span.start if one.span else -1, one.name)))

    def _found(self, text: str, places: Sequence[tuple[int, int]], rows: Sequence[Sequence[float]]) -> Iterator[Marked]:
        folder = self._model.folder
        if folder.of is Of.TOKENS:
            yield from joined(text, places, rows, folder.labels)
        else:
            yield from (Marked(label, chance, None) for label, chance in zip(folder.labels, rows[0], strict=True))
