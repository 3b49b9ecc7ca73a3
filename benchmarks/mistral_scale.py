"""A randomly initialised model of Mistral-7B's exact shape, extracted from on this machine.

Writes about 14.5 GB to a temporary folder, runs ``splinellm extract`` on it in processes of their
own, and removes it. Usage: python benchmarks/mistral_scale.py [--layers 32] [--prompts 8]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import MistralConfig, PreTrainedTokenizerFast

from splinellm import FeatureTable
from splinellm.bench.timing import prompts_of

STD = 0.02


def config_of(n_layers: int) -> MistralConfig:
    """Mistral-7B-v0.1, but for the number of layers if that is another."""
    return MistralConfig(
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=n_layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        sliding_window=4096,
        max_position_embeddings=32_768,
        architectures=["MistralModel"],
        dtype="bfloat16",
    )


def shards(config: MistralConfig) -> Iterator[dict[str, Tensor]]:
    """Weights, one decoder layer at a time, so that the model is never in memory twice."""

    def random(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=torch.bfloat16).normal_(std=STD)

    def ones() -> Tensor:
        return torch.ones(config.hidden_size, dtype=torch.bfloat16)

    d, k = config.hidden_size, config.intermediate_size
    n_keys = config.num_key_value_heads * config.head_dim
    yield {"embed_tokens.weight": random(config.vocab_size, d), "norm.weight": ones()}
    for layer in range(config.num_hidden_layers):
        name = f"layers.{layer}."
        yield {
            name + "self_attn.q_proj.weight": random(d, d),
            name + "self_attn.k_proj.weight": random(n_keys, d),
            name + "self_attn.v_proj.weight": random(n_keys, d),
            name + "self_attn.o_proj.weight": random(d, d),
            name + "mlp.gate_proj.weight": random(k, d),
            name + "mlp.up_proj.weight": random(k, d),
            name + "mlp.down_proj.weight": random(d, k),
            name + "input_layernorm.weight": ones(),
            name + "post_attention_layernorm.weight": ones(),
        }


def write_model(folder: Path, n_layers: int) -> int:
    """Write a checkpoint with a small tokenizer; returns its bytes."""
    config = config_of(n_layers)
    where: dict[str, str] = {}
    size = 0
    for number, weights in enumerate(shards(config)):
        name = f"model-{number:05d}.safetensors"
        save_file(weights, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(weights, name)
        size += (folder / name).stat().st_size
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(prompts_of(50, 6), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return size


def extract(model: Path, prompts: Path, output: Path, *options: str) -> tuple[float, float]:
    """Run the command; returns its seconds and the peak of its anonymous memory, in GB."""
    command = [sys.executable, "-c", "from splinellm.cli import main; main()", "extract"]
    command += [str(prompts), "-o", str(output), "--model", str(model), "--dtype", "bfloat16"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--quiet", *options])
    peak = 0
    while process.poll() is None:
        try:
            memory = psutil.Process(process.pid).memory_info()
            peak = max(peak, memory.rss - memory.shared)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    if process.wait():
        raise SystemExit("extract failed")
    return time.perf_counter() - start, peak / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, prompts = folder / "model", folder / "prompts.jsonl"
        model.mkdir()
        weights_gb = write_model(model, given.layers) / 1e9
        texts = prompts_of(given.prompts, 1)
        prompts.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        print(f"{weights_gb:.2f} GB of weights in {given.layers} layers, bfloat16")
        for options in (["--layers", "0-2"], []):
            output = folder / "features.parquet"
            seconds, peak_gb = extract(model, prompts, output, *options)
            table = FeatureTable.from_parquet(output)
            n_layers, n_features = table.schema.shape
            n_tokens = int(table.n_tokens.sum())
            print(
                f"{' '.join(options) or 'all layers'}: {len(table)} prompts of {n_tokens} tokens, "
                f"{n_layers} x {n_features} = {n_layers * n_features} numbers each; "
                f"{seconds:.0f} s with loading and hashing; peak memory {peak_gb:.2f} GB"
            )


if __name__ == "__main__":
    main()
