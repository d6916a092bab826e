"""The encoder and its training loop, with a tiny one of the same class. Needs torch, which the tests' environment may lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extras import need

need("torch", "safetensors", "onnx", extra="train")

import torch  # noqa: E402

from classifiers.train.encoder import Encoder, Sizes  # noqa: E402
from classifiers.train.row import HEADS  # noqa: E402
from classifiers.train.train import Encoded, Plan, load, logits_of, masked_loss, padded, train, write  # noqa: E402

SIZES = Sizes(50, hidden=16, layers=2, heads=2, inner=32, positions=24)


def tiny() -> Any:
    torch.manual_seed(0)
    return Encoder(SIZES)


def sixteen() -> Encoded:
    """Sixteen random texts, each head known in half of them."""
    rng = np.random.default_rng(0)
    ids = [[0, *rng.integers(4, 50, rng.integers(3, 12)).tolist(), 2] for _ in range(16)]
    labels = rng.integers(0, 2, (16, len(HEADS))).astype(np.int8)
    labels[rng.random(labels.shape) < 0.5] = -1
    return Encoded(ids, labels, ["x"] * 16)


def loss_of(model: Any, data: Encoded) -> float:
    with torch.inference_mode():
        return float(masked_loss(model(*padded(data.ids)), torch.from_numpy(data.labels), torch.ones(len(HEADS))))


def test_it_overfits_sixteen_rows_in_twenty_steps() -> None:
    model, data = tiny(), sixteen()
    before = loss_of(model, data)
    train(
        model, data, Plan(epochs=20, size=16, budget=10_000, rate=2e-2, head_rate=2e-2, dropout=0.0, frozen=0), None, 1e9, False
    )
    model.eval()
    assert before > 0.5
    assert loss_of(model, data) < 0.2
    found = logits_of(model, data, False)
    known = data.labels >= 0
    assert ((found > 0) == (data.labels == 1))[known].mean() > 0.95


def test_what_is_frozen_stays() -> None:
    model, data = tiny(), sixteen()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, data, Plan(epochs=2, size=16, frozen=1), None, 1e9, False)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("layers.1.") for name in changed)
    assert any(name.startswith("head.") for name in changed)
    assert not any(name.startswith(("layers.0.", "words.", "positions.", "norm.")) for name in changed)


def test_padding_does_not_change_a_score() -> None:
    model = tiny().eval()
    with torch.inference_mode():
        alone = model(*padded([[0, 5, 6, 2]]))[0]
        beside = model(*padded([[0, 5, 6, 2], [0, *range(4, 20), 2]]))[0]
    assert torch.allclose(alone, beside, atol=1e-5)


def test_an_unknown_label_teaches_nothing() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    masked_loss(logits, torch.tensor([[1, -1], [0, -1]]), torch.ones(2)).backward()
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]
    assert (logits.grad[:, 0] != 0).all()


def test_a_training_that_was_stopped_goes_on_from_its_state(tmp_path: Path) -> None:
    data, plan = sixteen(), Plan(epochs=6, size=16, dropout=0.0)
    whole = tiny()
    train(whole, data, plan, None, 1e9, False)
    halted = tiny()
    steps = []

    def stop(module: Any, args: Any) -> None:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt

    hook = halted.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train(halted, data, plan, tmp_path, 0.0, False)
    hook.remove()
    again = tiny()
    train(again, data, plan, tmp_path, 1e9, False)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], atol=1e-6), name


def test_it_is_written_and_read_and_layers_above_are_left_out(tmp_path: Path) -> None:
    model, data = tiny().eval(), sixteen()
    write(model, tmp_path)
    assert np.allclose(logits_of(load(tmp_path, 0.0, 2), data, False), logits_of(model, data, False))
    assert len(load(tmp_path, 0.0, 1).layers) == 1


def test_the_shipped_form_gives_the_same_logits_and_fits_int8(tmp_path: Path) -> None:
    from classifiers.train.quantise import export, quantised
    from classifiers.train.score import session

    model, data = tiny(), sixteen()
    train(model, data, Plan(epochs=20, size=16, rate=2e-2, head_rate=2e-2, dropout=0.0, frozen=0), None, 1e9, False)
    exact = logits_of(model, data, False)
    model.eval()
    export(model, data.ids, tmp_path / "float.onnx")
    quantised(tmp_path / "float.onnx", tmp_path / "model.onnx")
    for name, least in (("float.onnx", 0.9999), ("model.onnx", 0.98)):
        running = session(tmp_path / name)
        found = [running.run(["logits"], {"input_ids": [one], "attention_mask": [[1] * len(one)]})[0][0] for one in data.ids]
        assert np.corrcoef(np.array(found).ravel(), exact.ravel())[0, 1] > least, name
