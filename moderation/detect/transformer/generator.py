"""A model of the transformers library that writes: messages go in, the text that it writes comes out, always the same one.

Nothing is fetched, no code of a model's is run, no pickle is read. One question a call, on one thread; the likeliest token each
time, whatever the model's folder says of sampling, so that an answer depends on nothing else that is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moderation.detect.guard.chat import Message
from moderation.detect.transformer.folder import Written
from moderation.errors import UsageError
from moderation.verdict import Cause
from moderation.wire.body import mended

MOST_TOKENS = 32_768
"""Of a question and its answer, where a model takes more; also where it does not say how many."""
_LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


class Generator:
    """A loaded model. May be used from several threads at once."""

    def __init__(self, folder: Written) -> None:
        """Raises UsageError where transformers and torch are not there, or the folder cannot be loaded."""
        try:
            import torch
            import transformers
            from safetensors import SafetensorError
        except ImportError as error:
            told = f"a model in process needs {error.name}, which is not installed: pip install 'moderation[transformers]'"
            raise UsageError(told) from None
        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()  # stderr is the operational log
        where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder.path, **where)
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                folder.path, use_safetensors=True, dtype=torch.float32, **where
            ).eval()
            ends = self._model.generation_config.eos_token_id
            if not isinstance(self._tokenizer.chat_template, str):
                raise UsageError("it has several chat templates, or none", str(folder.path))
        except (*_LOAD_ERRORS, SafetensorError) as error:
            raise UsageError(f"transformers cannot load it ({type(error).__name__})", str(folder.path)) from None
        every = [*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id]
        self._ends = frozenset(one for one in every if isinstance(one, int))
        if not self._ends:
            raise UsageError("it does not say which token ends an answer (eos_token_id)", str(folder.path))
        # What the folder says of sampling, penalties and the like is not for a judge.
        self._model.generation_config = transformers.GenerationConfig(
            do_sample=False, num_beams=1, eos_token_id=sorted(self._ends), pad_token_id=min(self._ends)
        )
        self._torch = torch
        places = getattr(self._model.config, "max_position_embeddings", None)
        self._room = min(MOST_TOKENS, places if isinstance(places, int) else MOST_TOKENS)
        self.runtime = f"transformers {transformers.__version__} torch {torch.__version__}"
        self.version = f"{folder.pin} {self.runtime}"

    def write(self, messages: Sequence[Message], most: int) -> str | Cause:
        """The whole answer, of at most `most` tokens with the one that ends it; a cause where it, or the question, is longer."""
        given = [{"role": role, "content": mended(content)} for role, content in messages]
        text = self._tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        if len(ids) + most > self._room:
            return Cause.TOO_LARGE
        torch, numbers = self._torch, _Numbers()
        with torch.inference_mode():
            asked = torch.tensor([ids])
            found = self._model.generate(
                asked, attention_mask=torch.ones_like(asked), max_new_tokens=most, logits_processor=[numbers]
            )
        *written, last = found[0, len(ids) :].tolist()
        if numbers.lost or last not in self._ends:
            return Cause.INVALID
        return str(self._tokenizer.decode(written, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class _Numbers:
    """Looks on as tokens are chosen: whether what the model gave for each of them were numbers."""

    lost = False

    def __call__(self, ids: Any, scores: Any) -> Any:
        self.lost = self.lost or not bool(scores.isfinite().all())
        return scores
