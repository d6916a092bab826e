"""Tiny random models of the real classes, saved as transformers saves them. Needs transformers and torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz0123456789.,!?我你他好",
    *(f"##{one}" for one in "abcdefghijklmnopqrstuvwxyz0123456789"),
]
_SIZE: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
CLASSES = ("Bert", "XLMRoberta", "DebertaV2", "ModernBert")


def model(
    folder: Path,
    name: str = "Bert",
    of: str = "SequenceClassification",
    labels: tuple[str, ...] = ("SAFE", "INJECTION"),
    *,
    positions: int = 64,
    seed: int = 0,
    **config: Any,
) -> Path:
    import torch
    import transformers

    torch.manual_seed(seed)
    more = (
        {
            "global_attn_every_n_layers": 1,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        }
        if name == "ModernBert"
        else {}
    )
    numbered = dict(enumerate(labels))
    told = getattr(transformers, f"{name}Config")(
        **_SIZE, max_position_embeddings=positions, id2label=numbered, label2id={label: number for number, label in numbered.items()}, **more, **config,
    )  # fmt: skip
    made = getattr(transformers, f"{name}For{of}")(told)
    for weights in made.parameters():  # far from zero, so that labels differ from text to text
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=1.0)
    made.save_pretrained(folder)
    _tokenizer(folder, positions)
    return folder


def _tokenizer(folder: Path, most: int) -> None:
    import tokenizers
    import transformers

    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", model_max_length=most,
    ).save_pretrained(folder)  # fmt: skip
