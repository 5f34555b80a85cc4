"""indexer/encoders/processor.py: many inputs are for ONNX Runtime where that was measured to be faster."""

from __future__ import annotations

import pytest

from indexer.encoders import processor
from indexer.encoders.onnx.few import graphs_take


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with AVX2, no GPU, no number format named."""
    monkeypatch.delenv("TRIMODAL_DTYPE", raising=False)
    monkeypatch.setattr(processor, "may_have_gpu", lambda: False)
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset(("avx2", "fma")))
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")


def test_many_inputs_are_for_graphs_on_a_processor_without_bfloat16() -> None:
    assert processor.favours_graphs()
    assert graphs_take(1_000, 8)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_torch_takes_many_where_bfloat16_is_multiplied(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset(("avx2", flag)))
    assert not graphs_take(9, 8)
    assert graphs_take(8, 8)


def test_torch_takes_many_where_there_may_be_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "may_have_gpu", lambda: True)
    assert not processor.favours_graphs()


def test_torch_takes_many_in_a_named_number_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMODAL_DTYPE", "bfloat16")
    assert not processor.favours_graphs()


@pytest.mark.parametrize(("machine", "flags"), [("arm64", ("avx2",)), ("x86_64", ("sse4_2",)), ("x86_64", ())])
def test_what_was_not_measured_is_for_torch(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: tuple[str, ...]
) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset(flags))
    assert not processor.favours_graphs()
