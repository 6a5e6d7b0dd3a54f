"""SpIEL on a 4-bit base: it is SpIEL on the dequantised weights, and its delta goes into the full-precision
ones.
"""

import copy
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sft_examples import bits, encoder, same_bits
from test_sparse_training import train
from torch import Tensor, nn

from bistil.errors import InputError
from bistil.sft import quantised, sampled
from bistil.sft.delta import SparseDelta, base_hash, deltas_applied
from bistil.sft.quantised import QuantisedLinear, QuantisedSupport, library, quantise, round_to_4_bits
from bistil.sft.spiel import MovingSupport, SpielConfig, spiel_optimizer
from bistil.sft.spiel.support import choose_tensors


def levels(weight: Tensor, *, quant_type: str, compress_statistics: bool) -> tuple[Tensor, Tensor]:
    """A stand-in for the library: 16 evenly spaced levels of the largest absolute value."""
    assert quant_type == "nf4"
    assert compress_statistics
    scale = weight.abs().max() / 7.5
    return (weight / scale).round().clamp(-8, 7).to(torch.int8), scale


@pytest.fixture(params=["stand-in", "bitsandbytes"])
def four_bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    else:
        made = SimpleNamespace(quantize_4bit=levels, dequantize_4bit=lambda packed, scale: packed * scale)
        monkeypatch.setattr(quantised, "library", lambda: made)


def config(**changes: Any) -> SpielConfig:
    return SpielConfig(
        **{"steps": 12, "interval": 4, "estimation": 2, "density": 0.1, "rate": 0.5, **changes}
    )


def rounded() -> nn.Module:
    """An encoder whose linear weights are what their 4 bits say."""
    model, twin = encoder(), encoder()
    quantise(twin)
    with torch.no_grad():
        for name, layer in twin.named_modules():
            if isinstance(layer, QuantisedLinear):
                model.get_parameter(f"{name}.weight").copy_(layer.dense())
    return model


@pytest.mark.usefixtures("four_bits")
def test_weights_rounded_in_place_are_what_their_4_bits_say() -> None:
    model, whole = encoder(), encoder()
    round_to_4_bits(model)
    for name, parameter in rounded().named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    changed = {
        name for name, one in model.named_parameters() if not torch.equal(one, whole.get_parameter(name))
    }
    assert changed == set(choose_tensors(whole))


@pytest.mark.usefixtures("four_bits")
@pytest.mark.parametrize(
    "changes", [{"method": "ag"}, {"method": "ma", "embeddings": True}, {"method": "ag", "tensors": "global"}]
)
@pytest.mark.parametrize("least", [1, 2**18])
def test_it_is_spiel_on_the_dequantised_weights(
    changes: dict[str, Any], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled, "LEAST", least)
    full, model, plain = encoder(), encoder(), rounded()
    base = base_hash(full)
    quantise(model)
    packed = {
        name: layer.dense() for name, layer in model.named_modules() if isinstance(layer, QuantisedLinear)
    }
    with QuantisedSupport(model, config(**changes)) as support:
        train(model, spiel_optimizer(support, lr=1e-3), 12)
        delta = support.delta(base)
    with MovingSupport(plain, config(**changes)) as dense:
        train(plain, spiel_optimizer(dense, lr=1e-3), 12)
    assert torch.equal(support.keys, dense.keys)
    torch.testing.assert_close(support.values, dense.values, rtol=1e-3, atol=1e-5)
    assert support.values.abs().max() > 2e-3
    ids = torch.arange(8)[None]
    torch.testing.assert_close(
        model(input_ids=ids).last_hidden_state, plain(input_ids=ids).last_hidden_state, rtol=1e-3, atol=1e-4
    )
    untouched = bits(full)
    with deltas_applied(full, delta):
        name = next(iter(delta.tensors))
        positions, values = delta.tensors[name]
        torch.testing.assert_close(
            full.get_parameter(name).view(-1)[positions], untouched[name].view(-1)[positions] + values
        )
    assert same_bits(bits(full), untouched)
    support.rewind()
    for name, layer in model.named_modules():
        if isinstance(layer, QuantisedLinear):
            assert torch.equal(layer.dense(), packed[name])


@pytest.mark.usefixtures("four_bits")
def test_a_checkpoint_has_no_base_and_continues_in_the_same_delta() -> None:
    def run(steps: int, *, skip: int = 0, start: Any = None) -> tuple[Any, Any, SparseDelta]:
        model = encoder()
        quantise(model)
        with QuantisedSupport(model, config()) as support:
            optimizer = spiel_optimizer(support, lr=1e-3)
            if start:
                model.load_state_dict(start[0])
                optimizer.load_state_dict(start[1])
            train(model, optimizer, steps, skip=skip)
            return (
                copy.deepcopy(model.state_dict()),
                copy.deepcopy(optimizer.state_dict()),
                support.delta("b"),
            )

    whole, half = run(12), run(6)
    assert not any("dense.weight" in name or "query.weight" in name for name in half[0])
    saved = io.BytesIO()
    torch.save(half[:2], saved)
    resumed = run(12, skip=6, start=torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert resumed[2] == whole[2]


@pytest.mark.usefixtures("four_bits")
def test_no_weight_of_a_block_stays_dense() -> None:
    model = encoder().bfloat16()
    quantise(model)
    for layer in model.modules():
        if isinstance(layer, QuantisedLinear):
            assert layer.weight.untyped_storage().nbytes() <= 2
            assert layer._packed.nbytes <= layer.weight.numel()
    states = model(input_ids=torch.arange(6)[None]).last_hidden_state
    assert states.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16), QuantisedSupport(model, config()) as support:
        model(input_ids=torch.arange(6)[None]).last_hidden_state.float().square().sum().backward()
        assert support.values.grad is not None
        assert bool(support.values.grad.isfinite().all())


def test_a_missing_library_or_a_full_precision_encoder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[quantised\]'"):
        library()
    model = encoder()
    before = bits(model)
    with pytest.raises(InputError, match=r"pip install -e '\.\[quantised\]'"):
        quantise(model)
    assert same_bits(bits(model), before)
    with pytest.raises(InputError, match=r"call quantise\(encoder\) first"):
        QuantisedSupport(model, config())
