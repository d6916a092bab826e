"""A tiny Qwen3 with a chat template, saved as transformers saves it: random, or made to answer by the last word of a question.

Needs transformers and torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SAFE = "Safety: Safe\nCategories: None"
UNSAFE = "Safety: Unsafe\nCategories: Violent"
DOUBTFUL = "Safety: Controversial\nCategories: PII"
REFUSED = "Safety: Unsafe\nCategories: Violent\nRefusal: Yes"
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "hello": (SAFE,),
    "bomb": (UNSAFE,),
    "number": (DOUBTFUL,),
    "boom": (REFUSED,),
    "slowly": ("Safety:", "Unsafe\nCategories: Violent"),
    "chatter": ("Sure!", "Here it is."),
    "endless": ("on", "on"),
}
"""The last word of a question, and the tokens of its answer; that of the last one never ends."""
END = "<|endoftext|>"
TEMPLATE = "{% for one in messages %}{{ one['role'] }} {{ one['content'] }} {% endfor %}"


def model(
    folder: Path,
    answers: Mapping[str, tuple[str, ...]] | None = ANSWERS,
    *,
    template: str | None = TEMPLATE,
    positions: int = 2048,
) -> Path:
    """Of random weights where there are no answers."""
    import torch
    import transformers

    said = [token for one in (answers or {}).values() for token in one]
    words = list(dict.fromkeys(["[UNK]", END, "user", "assistant", "how", "to", *(answers or ANSWERS), *said]))
    torch.manual_seed(0)
    told = transformers.Qwen3Config(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=32, max_position_embeddings=positions, eos_token_id=1, bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    made = transformers.Qwen3ForCausalLM(told)
    if answers is not None:
        _taught(made, words, answers)
    made.generation_config.do_sample = True  # what a folder says of sampling is not for a judge
    made.generation_config.temperature = 9.0
    made.save_pretrained(folder)
    _tokenizer(folder, words, template)
    return folder


def _taught(made: Any, words: list[str], answers: Mapping[str, tuple[str, ...]]) -> None:
    """Each token alone says which one comes next: the layer adds nothing, and the head is a table."""
    import torch

    with torch.no_grad():
        for layer in made.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        made.model.embed_tokens.weight.copy_(torch.eye(len(words), 32))
        made.lm_head.weight.zero_()
        for word, answer in answers.items():
            for token, after in zip((word, *answer), (*answer, END), strict=True):
                if token != after or word == "endless":
                    made.lm_head.weight[words.index(after), words.index(token)] = 1.0
    if "endless" in answers:
        with torch.no_grad():
            made.lm_head.weight[words.index(END), words.index("on")] = 0.0


def _tokenizer(folder: Path, words: list[str], template: str | None) -> None:
    import tokenizers
    import transformers

    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", eos_token=END, chat_template=template
    ).save_pretrained(folder)
