"""Where a model of vLLM has the parts that are watched, and what its settings must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splinellm.errors import ConfigurationError, UnsupportedArchitectureError
from splinellm.geometry import row_norms

_GATE = re.compile(r"(?P<prefix>.*?)layers\.(?P<layer>\d+)\.mlp\.gate_up_proj")
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class ServedModel:
    """What a plan asks of a model; stands for :class:`splinellm.backbone.decoder.Decoder`.

    Parameters
    ----------
    name : str
        What the engine calls it.
    model_type : str
        transformers' name of the architecture.
    n_layers, n_hyperplanes : int
        L and K.
    dtype : str
        Of the forward pass.
    max_positions : int
        Longest request.
    attention : str
        What computes its attention.
    """

    name: str
    model_type: str
    n_layers: int
    n_hyperplanes: int
    dtype: str
    max_positions: int
    attention: str

    @property
    def n_loaded_layers(self) -> int:
        """Layers that are there: all."""
        return self.n_layers

    @property
    def architecture(self) -> ServedModel:
        """What knows ``model_type`` and whether the attention can be seen."""
        return self

    def require_attention(self) -> None:
        """Accept the dimension: queries and keys are seen on their way into the attention."""


def require_visible(config: Any) -> None:
    """Refuse an engine whose settings hide the gates; `config` is vLLM's.

    Raises
    ------
    ConfigurationError
        Names the flags to set.
    """
    parallel, compilation = config.parallel_config, config.compilation_config
    mode = getattr(compilation.mode, "name", str(compilation.mode))
    graphs = getattr(compilation.cudagraph_mode, "name", str(compilation.cudagraph_mode))
    troubles = {
        "compiled graphs run without hooks: --enforce-eager": (mode, graphs) != ("NONE", "NONE"),
        "prefix caching does not read what it has cached: --no-enable-prefix-caching": bool(
            config.cache_config.enable_prefix_caching
        ),
        "tensor parallelism cuts the gates: --tensor-parallel-size 1": (
            parallel.tensor_parallel_size > 1
        ),
        "data parallelism puts requests into other engines: --data-parallel-size 1": (
            getattr(parallel, "data_parallel_size", 1) > 1
        ),
        "pipeline parallelism puts layers elsewhere: --pipeline-parallel-size 1": (
            parallel.pipeline_parallel_size > 1
        ),
        "speculative decoding reads tokens that are taken back: no --speculative-config": (
            config.speculative_config is not None
        ),
        "adapters change the hyperplanes from row to row: no --enable-lora": (
            config.lora_config is not None
        ),
        "a cache of another engine is not read here: no --kv-transfer-config": (
            config.kv_transfer_config is not None
        ),
        "microbatches run the layers twice: no --enable-dbo": bool(
            getattr(parallel, "use_ubatching", False)
        ),
        "model runner V2 does not tell whose the tokens are: VLLM_USE_V2_MODEL_RUNNER=0": bool(
            getattr(config, "use_v2_model_runner", False)
        ),
    }
    if found := [trouble for trouble, is_so in troubles.items() if is_so]:
        raise ConfigurationError(
            "the engine was started with settings that hide the gates", hint="; ".join(found)
        )


def gates_of(model: nn.Module, n_layers: int) -> list[nn.Module]:
    """The fused gate and up projections of all layers, in order.

    Raises
    ------
    UnsupportedArchitectureError
        Not every layer has one.
    """
    found: dict[str, dict[int, nn.Module]] = {}
    for name, module in model.named_modules():
        if (match := _GATE.fullmatch(name)) is not None:
            found.setdefault(match["prefix"], {})[int(match["layer"])] = module
    for layers in found.values():
        if sorted(layers) == [*range(n_layers)]:
            return [layers[layer] for layer in range(n_layers)]
    raise UnsupportedArchitectureError(
        f"vLLM's {type(model).__name__} has no mlp.gate_up_proj in each of its {n_layers} layers",
        hint="watched are models built like Llama: Llama, Mistral, Qwen2, Qwen3, Gemma, Phi-3",
    )


def attentions_of(model: nn.Module, gates: list[nn.Module]) -> list[nn.Module]:
    """What is given queries and keys in each layer that has one of these gates."""
    names = {module: name for name, module in model.named_modules()}
    found = []
    for gate in gates:
        layer = names[gate].removesuffix(".mlp.gate_up_proj")
        found.append(model.get_submodule(f"{layer}.self_attn.attn"))
    return found


def width_of(gate: Any) -> int:
    """Hyperplanes K of a fused projection; those are its first outputs."""
    sizes = [int(size) for size in gate.output_sizes]
    if len(sizes) != 2 or sizes[0] != sizes[1]:
        raise UnsupportedArchitectureError(
            f"a gate_up_proj with outputs {sizes} is not that of a gate and as large an up"
        )
    return sizes[0]


@torch.no_grad()
def norms_of(gate: Any) -> Tensor:
    """Norms of the hyperplanes of a fused projection, shape (K,), float32.

    Where the weight is packed, as vLLM does on a CPU, the map is asked for unit vectors.
    """
    n_hyperplanes, n_inputs = width_of(gate), int(gate.input_size)
    weight = getattr(gate, "weight", None)
    if isinstance(weight, Tensor) and weight.shape == (2 * n_hyperplanes, n_inputs):
        return row_norms(weight[:n_hyperplanes])
    some = next((it for it in gate.parameters() if it.numel()), None)
    device = torch.device("cpu") if some is None else some.device
    dtype = gate.params_dtype
    squares = torch.zeros(n_hyperplanes, device=device)
    for start in range(0, n_inputs, _ROWS_AT_ONCE):
        n_rows = min(_ROWS_AT_ONCE, n_inputs - start)
        units = torch.zeros(n_rows + 1, n_inputs, dtype=dtype, device=device)
        units[torch.arange(n_rows), torch.arange(start, start + n_rows)] = 1.0
        answers = gate.quant_method.apply(gate, units)[:, :n_hyperplanes].float()
        squares += (answers[:n_rows] - answers[n_rows]).square().sum(dim=0)
    return squares.sqrt()


def n_layers_of(worker: Any) -> int:
    """Layers of the model that a worker runs."""
    return int(worker.vllm_config.model_config.hf_text_config.num_hidden_layers)


def describe(worker: Any) -> ServedModel:
    """Say what a worker runs.

    Raises
    ------
    ConfigurationError
        Its settings hide the gates; names the flags to set.
    UnsupportedArchitectureError
        The model is not built like Llama.
    """
    config = worker.vllm_config
    require_visible(config)
    model = worker.model_runner.get_model()
    gates = gates_of(model, n_layers_of(worker))
    attention = attentions_of(model, gates[:1])[0]
    return ServedModel(
        name=str(config.model_config.model),
        model_type=str(config.model_config.hf_text_config.model_type),
        n_layers=len(gates),
        n_hyperplanes=min(width_of(gate) for gate in gates),
        dtype=str(config.model_config.dtype).removeprefix("torch."),
        max_positions=int(config.model_config.max_model_len),
        attention=f"vllm {type(getattr(attention, 'impl', attention)).__name__}",
    )
