"""Blocks of 4 bits against gguf's own dequantising, and against ONNX Runtime's product."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest

from indexer.encoders.onnx.blocks import Blocks, read_blocks
from indexer.encoders.onnx.graph import GraphBuilder
from indexer.encoders.onnx.session import open_session

BYTES = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q4_K": (256, 144), "Q6_K": (256, 210)}


def random_tensor(kind: str, n: int = 6, k: int = 512) -> SimpleNamespace:
    """Random bytes with scales that are plain numbers, as a tensor of a GGUF reader."""
    per_block, size = BYTES[kind]
    chance = np.random.default_rng(0)
    data = chance.integers(0, 256, (n, k // per_block, size), dtype=np.uint8)
    halves = 1 if kind in ("Q4_0", "Q6_K") else 2
    scales = chance.normal(0, 0.1, (n, k // per_block, halves)).astype("<f2")
    place = slice(208, 210) if kind == "Q6_K" else slice(0, 2 * halves)
    data[..., place] = scales.view(np.uint8)
    return SimpleNamespace(
        data=data.reshape(n, -1), shape=np.array([k, n]), tensor_type=gguf.GGMLQuantizationType[kind]
    )


@pytest.mark.parametrize("kind", list(BYTES))
def test_blocks_hold_the_numbers_that_gguf_reads(kind: str) -> None:
    tensor = random_tensor(kind)
    found = read_blocks(tensor)
    assert isinstance(found, Blocks) and found.shape == (6, 512)
    np.testing.assert_allclose(found.dense(), gguf.dequantize(tensor.data, tensor.tensor_type), atol=1e-5)


def test_another_format_has_no_blocks() -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    rows = gguf.quantize(np.ones((2, 64), np.float32), kind)
    assert read_blocks(SimpleNamespace(data=rows, shape=np.array([64, 2]), tensor_type=kind)) is None


@pytest.mark.parametrize("kind", list(BYTES))
def test_a_product_with_blocks_is_that_with_their_numbers(kind: str, tmp_path: Path) -> None:
    weight = read_blocks(random_tensor(kind))
    assert weight is not None
    graph = GraphBuilder(tmp_path / "product.onnx")
    x = graph.input("x", "float", ["texts", "tokens", 512])
    bias = np.arange(6, dtype=np.float32)
    graph.save({"out": (graph.linear(x, "w", weight, bias), ["texts", "tokens", 6])})
    rows = np.random.default_rng(1).normal(size=(2, 5, 512)).astype(np.float32)
    (found,) = open_session(tmp_path / "product.onnx").run(["out"], {"x": rows})
    expected = rows.astype(np.float64) @ weight.dense().T.astype(np.float64) + bias
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
