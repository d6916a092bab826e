"""Make the model that ships: ONNX, weights in int8, and check it against torch.

The layers' weights are quantised by channel and their inputs at run time (onnxruntime's dynamic quantisation), with seven bits
a weight: CPUs without VNNI add pairs of products in sixteen bits, which eight would overflow, so that scores would differ by
machine. The word embedding is quantised by row, here, and looked up as int8.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from torch import Tensor, nn

from classifiers.train import score
from classifiers.train.encoder import Encoder
from classifiers.train.examples import read
from classifiers.train.manifest import PREFIXES, TOKENS
from classifiers.train.train import load

OPSET = 17


SMOOTHED = ("widen", "narrow")  # of a layer: the products whose inputs have channels far larger than the others


class Smooth(nn.Module):
    """A linear layer whose large inputs are divided by channel, its weights multiplied by the same (as in arXiv 2211.10438).

    One scale holds for a whole input in int8, so that a single large channel would leave the others few steps. Only channels
    larger than the median one are divided, by the root of how much they are larger.
    """

    def __init__(self, linear: nn.Linear, largest: Tensor) -> None:
        super().__init__()
        by = (largest / largest.median().clamp(min=1e-5)).sqrt().clamp(min=1.0)
        self.register_buffer("inverse", 1 / by)
        self.linear = nn.Linear(linear.in_features, linear.out_features)
        self.linear.weight = nn.Parameter(linear.weight.detach() * by)
        self.linear.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.linear(x * self.get_buffer("inverse"))
        return made


def largest_inputs(model: Encoder, ids: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    """By layer and linear layer of SMOOTHED, the largest absolute input of each channel over some texts."""
    found: list[dict[str, Tensor]] = [{} for _ in model.layers]
    hooks = []
    for layer, held in zip(model.layers, found, strict=True):
        for name in SMOOTHED:

            def seen(module: nn.Module, given: tuple[Tensor, ...], held: dict[str, Tensor] = held, name: str = name) -> None:
                most = given[0].detach().abs().amax((0, 1))
                held[name] = torch.maximum(held[name], most) if name in held else most

            hooks.append(getattr(layer, name).register_forward_pre_hook(seen))
    with torch.inference_mode():
        for one in ids:
            model(torch.tensor([one]), torch.ones(1, len(one), dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return [{name: most.clone() for name, most in held.items()} for held in found]


class Shipped(nn.Module):
    """The encoder as it is exported: the word embedding in int8, inputs smoothed, the attention written out."""

    def __init__(self, model: Encoder, largest: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.model = model
        words = model.words.weight.detach()
        scale = words.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        self.register_buffer("rows", (words / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        smooth = [
            {name: Smooth(getattr(layer, name), most[name]) for name in SMOOTHED}
            for layer, most in zip(model.layers, largest, strict=True)
        ]
        self.smooth = nn.ModuleList(nn.ModuleDict(one) for one in smooth)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        model = self.model
        rows, scale = self.get_buffer("rows"), self.get_buffer("scale")
        batch, tokens = input_ids.shape[0], input_ids.shape[1]
        x = rows[input_ids].float() * scale[input_ids] + model.positions.weight[:tokens]
        x = model.norm(x)
        absent = (1.0 - attention_mask.float())[:, None, None, :] * -1e4
        heads, wide = model.sizes.heads, model.sizes.hidden // model.sizes.heads
        for layer, smooth in zip(model.layers, self.smooth, strict=True):
            q, k, v = layer.qkv(x).view(batch, tokens, 3, heads, wide).permute(2, 0, 3, 1, 4).unbind(0)
            shares = torch.softmax(q @ k.transpose(-1, -2) / wide**0.5 + absent, dim=-1)
            x = layer.norm1(x + layer.out((shares @ v).transpose(1, 2).reshape(batch, tokens, heads * wide)))
            x = layer.norm2(x + smooth["narrow"](nn.functional.gelu(smooth["widen"](x))))
        weight = attention_mask.float()[:, :, None]
        logits: Tensor = model.head((x * weight).sum(1) / weight.sum(1))
        return logits


def export(model: Encoder, texts: Sequence[Sequence[int]], path: Path) -> None:
    """Write the model as float ONNX: input_ids, attention_mask -> logits, any batch and length. `texts`: ids."""
    ids = torch.tensor([[0, 5, 6, 2], [0, 7, 2, 1]])
    mask = (ids != 1).long()
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        Shipped(model, largest_inputs(model, texts)).eval(),
        (ids, mask),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )


def quantised(source: Path, to: Path) -> None:
    """Write `source` with the matrix products of the layers in int8; products of two activations stay in float."""
    graph = onnx.load(source).graph
    weights = {one.name for one in graph.initializer}
    products = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    products += [
        node.name for node in graph.node if node.op_type == "Gemm" and node.input[1] in weights and node.output[0] != "logits"
    ]
    quantize_dynamic(source, to, nodes_to_quantize=products, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def _some(tokenizer: Tokenizer, path: Path, count: int) -> list[list[int]]:
    """Ids of `count` examples, evenly from all over a file."""
    tokenizer.enable_truncation(TOKENS)
    rows = read(path)
    return [tokenizer.encode(PREFIXES[one.role] + one.text).ids for one in rows[:: max(1, len(rows) // count)][:count]]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.quantise", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run", type=Path, default=Path("build/run"), help="encoder and tokenizer that train wrote (default: %(default)s)"
    )
    parser.add_argument("--to", type=Path, default=Path("classifiers/small"), help="folder of the model (default: %(default)s)")
    parser.add_argument(
        "--corpus",
        type=Path,
        default=Path("build/corpus"),
        help="train.jsonl shows inputs, dev.jsonl is compared (default: %(default)s)",
    )
    parser.add_argument("--layers", type=int, default=6, help="as in train (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=150, help="texts to compare (default: %(default)s)")
    given = parser.parse_args(argv)
    given.to.mkdir(parents=True, exist_ok=True)
    model = load(given.run, 0.0, given.layers).eval()
    (given.to / "tokenizer.json").write_bytes((given.run / "tokenizer.json").read_bytes())
    tokenizer = Tokenizer.from_file(str(given.to / "tokenizer.json"))
    shown, ids = (_some(tokenizer, given.corpus / f"{split}.jsonl", given.sample) for split in ("train", "dev"))
    with tempfile.TemporaryDirectory() as work:
        export(model, shown, Path(work) / "float.onnx")
        quantised(Path(work) / "float.onnx", given.to / "model.onnx")
    with torch.inference_mode():
        exact = np.array(
            [model(torch.tensor([one]), torch.ones(1, len(one), dtype=torch.long))[0].numpy() for one in ids], np.float64
        )
    near = score.encoder_logits(given.to / "model.onnx", ids)
    apart = np.abs(exact - near)
    alike = float(np.corrcoef(exact.ravel(), near.ravel())[0, 1])
    size = sum(path.stat().st_size for path in given.to.glob("*") if path.name in ("model.onnx", "tokenizer.json"))
    far = float(np.quantile(apart, 0.99))
    print(f"{size:,} bytes; logits apart from torch: mean {apart.mean():.3f}, 99 % {far:.3f}; correlation {alike:.5f}")
    return 0 if alike > 0.99 else 1


if __name__ == "__main__":
    sys.exit(main())
