"""One token a sequence through the weights of a stock `Qwen2ForCausalLM`, with keys and values that stay where they are.

    cache = Cache(prompts, room=255, model=model)        sized once: longest prompt + room columns for every sequence
    hidden_BD = cache.prefill()                          the prompts packed, without padding, by transformers itself
    hidden_BD = cache.extend(ids_B)                      the next token of every sequence, by the loop below

`extend` is the arithmetic of transformers' own layers, in their order, without their modules: at one token a sequence
these cost as much as the numbers do. tests/model/test_decoding.py holds it to the stock forward pass.

Shapes: B sequences, D width, H heads, K key-value heads, G heads a key-value head, E head width, T columns in use.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from arm.errors import UserError
from arm.model.attention import Documents


def check_decodable(config: Any) -> None:
    """Refuse what `extend` does not compute: windows of attention, and rotations that change with the length."""
    if "sliding_attention" in (config.layer_types or ()):
        raise UserError("The model has layers with a sliding window (use_sliding_window); generation attends to all.")
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind in ("dynamic", "longrope"):
        raise UserError(f"The model's rope_type is {kind!r}, which turns with the length; use default, linear or yarn.")


def cache_bytes(config: Any, num_sequences: int, num_columns: int, element_bytes: int) -> int:
    """Bytes of the keys and values of a batch: its largest part of memory beside the weights.

    Qwen2.5-7B (28 layers, 4 key-value heads of 128) in bfloat16: 57,344 a column; 4,200 columns: 0.24 GB a sequence
    """
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row = config.num_hidden_layers * 2 * config.num_key_value_heads * head_width
    return int(num_sequences * num_columns * row * element_bytes)


class Cache:
    """Keys and values of B sequences, right-aligned: sequence b owns the columns from `starts_B[b]` to `filled`.

        a b c          · · a b c | x y          the next token of every sequence goes into the same column
        d e f g h      d e f g h | x y
    """  # fmt: skip

    def __init__(self, sequences: Sequence[Sequence[int]], room: int, model: Any) -> None:
        device = model.device
        self.model, self.decoder = model, model.model
        self.lengths = [len(ids) for ids in sequences]
        self.ids_1N = torch.tensor([index for ids in sequences for index in ids], device=device)[None]
        self.longest = max(self.lengths)
        self.capacity = self.longest + room
        self.filled = 0
        lengths_B = torch.tensor(self.lengths, device=device)
        self.starts_B = self.longest - lengths_B
        total, rows_B = sum(self.lengths), torch.arange(len(self.lengths), device=device)
        self.row_N = torch.repeat_interleave(rows_B, lengths_B, output_size=total)
        first_N = (lengths_B.cumsum(0) - lengths_B)[self.row_N]
        self.position_N = torch.arange(total, device=device) - first_N
        self.last_B = lengths_B.cumsum(0) - 1
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def prefill(self) -> Tensor:
        """Run the prompts packed; returns the hidden state (B, D) of each one's last token."""
        output = self.decoder(
            input_ids=self.ids_1N,
            position_ids=self.position_N[None],
            attention_mask={"full_attention": None},
            past_key_values=self,
            use_cache=False,
            documents=Documents.of(self.lengths, self.model.dtype, self.model.device),
        )
        self.filled = self.longest
        self._prepare_steps()
        hidden: Tensor = output.last_hidden_state[0][self.last_B]
        return hidden

    def update(self, key: Tensor, value: Tensor, layer: int, *unused: Any, **ignored: Any) -> tuple[Tensor, Tensor]:
        """What transformers' attention calls during `prefill`: store keys and values, attend to them as they are."""
        self.keys[layer], self.values[layer] = (self._aligned(x) for x in (key, value))
        return key, value

    def extend(self, ids_B: Tensor) -> Tensor:
        """Append one token to every sequence; returns the hidden states (B, D)."""
        column = self.filled
        self.filled += 1
        turn = [table[column - self.starts_B][:, None] for table in (self.cosine, self.sine)]
        hidden_BD = functional.embedding(ids_B, self.decoder.embed_tokens.weight)
        for number, layer in enumerate(self.decoder.layers):
            hidden_BD = hidden_BD + self._attend(number, layer, _norm(layer.input_layernorm, hidden_BD), turn)
            normed_BD = _norm(layer.post_attention_layernorm, hidden_BD)
            gate_BM = layer.mlp.act_fn(_linear(layer.mlp.gate_proj, normed_BD))
            hidden_BD = hidden_BD + _linear(layer.mlp.down_proj, gate_BM.mul_(_linear(layer.mlp.up_proj, normed_BD)))
        return _norm(self.decoder.norm, hidden_BD)

    def _attend(self, number: int, layer: Any, normed_BD: Tensor, turn: list[Tensor]) -> Tensor:
        """The query heads of one key-value head are taken together, so that no key is copied."""
        attention, column, keys, values = layer.self_attn, self.filled - 1, self.keys[number], self.values[number]
        batch, num_kv, capacity, width = keys.shape
        query_BHE = _turned(_linear(attention.q_proj, normed_BD).view(batch, -1, width), turn)
        keys[:, :, column] = _turned(_linear(attention.k_proj, normed_BD).view(batch, num_kv, width), turn)
        values[:, :, column] = _linear(attention.v_proj, normed_BD).view(batch, num_kv, width)
        key_NTE, value_NTE = (x.view(batch * num_kv, capacity, width)[:, : self.filled] for x in (keys, values))
        query_NGE = query_BHE.mul_(attention.scaling).view(batch * num_kv, -1, width)
        scores_NGT = torch.bmm(query_NGE, key_NTE.transpose(1, 2))
        if self.hidden_N1T is not None:
            scores_NGT.add_(self.hidden_N1T[:, :, : self.filled])
        out_NGE = torch.bmm(functional.softmax(scores_NGT, dim=-1), value_NTE)
        return _linear(attention.o_proj, out_NGE.view(batch, -1))

    def _prepare_steps(self) -> None:
        """What all steps share: rotations of every position, and the columns before a sequence's first, hidden."""
        device, dtype = self.model.device, self.model.dtype
        example = torch.empty(0, dtype=dtype, device=device)
        positions = torch.arange(self.capacity, device=device)[None]
        self.cosine, self.sine = (table[0] for table in self.decoder.rotary_emb(example, positions))
        half = self.sine.shape[-1] // 2
        self.sine = torch.cat([-self.sine[:, :half], self.sine[:, half:]], dim=-1)
        self.hidden_N1T: Tensor | None = None
        if min(self.lengths) < self.longest:
            before_BT = torch.arange(self.capacity, device=device)[None] < self.starts_B[:, None]
            hidden_BT = torch.zeros(before_BT.shape, dtype=dtype, device=device).masked_fill(before_BT, float("-inf"))
            self.hidden_N1T = hidden_BT.repeat_interleave(self.keys[0].shape[1], dim=0)[:, None]

    def _aligned(self, packed_1KNE: Tensor) -> Tensor:
        heads, width = packed_1KNE.shape[1], packed_1KNE.shape[3]
        store = packed_1KNE.new_zeros(len(self.lengths), heads, self.capacity, width)
        store[self.row_N, :, self.starts_B[self.row_N] + self.position_N] = packed_1KNE[0].transpose(0, 1)
        return store


def _linear(module: Any, x: Tensor) -> Tensor:
    return functional.linear(x, module.weight, module.bias)


def _norm(module: Any, x: Tensor) -> Tensor:
    """Qwen2's norm: in float32, and rounded to the type of the weights before their product."""
    normed = functional.rms_norm(x.float(), x.shape[-1:], None, module.variance_epsilon)
    return normed.to(x.dtype).mul_(module.weight)


def _turned(x_BHE: Tensor, turn: list[Tensor]) -> Tensor:
    """Rotary positions: x cos + (−x₂, x₁) sin, the sign being in the sine."""
    cosine_B1E, sine_B1E = turn
    return (x_BHE * cosine_B1E).add_(x_BHE.roll(x_BHE.shape[-1] // 2, dims=-1).mul_(sine_B1E))
