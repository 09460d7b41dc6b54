"""Transformer blocks of the projections, the pixel DiT and the latent DiT.

Shapes: B images, N tokens, C width, H heads, D width of a head.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AttentionScope = Literal["global", "patch"]

EAGER_MAX_TOKENS = 128
"""Below this, plain matmuls: SDPA's backward is slow on CPUs at short lengths."""


class Attention(nn.Module):
    """Self-attention over all tokens ("global"), or over the token itself ("patch"): then it is its value projection."""

    def __init__(self, width: int, heads: int, scope: AttentionScope = "global") -> None:
        super().__init__()
        self.heads, self.scope = heads, scope
        self.qkv = nn.Linear(width, width if scope == "patch" else 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        if self.scope == "patch":
            return self.out(self.qkv(x_BNC))  # type: ignore[no-any-return]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x_BNC).chunk(3, dim=-1))
        mixed_BHND = attend(q, k, v)
        return self.out(mixed_BHND.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def attend(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    """Bidirectional attention, (B, H, N, D) each."""
    if q_BHND.shape[2] > EAGER_MAX_TOKENS:
        return F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND)
    scores = (q_BHND * q_BHND.shape[-1] ** -0.5) @ k_BHND.mT
    return torch.matmul(scores.softmax(-1).to(v_BHND.dtype), v_BHND)


class Block(nn.Module):
    """Pre-norm attention and MLP; with `conditioned`, scale, shift and gate come from a vector (adaLN-Zero, DiT)."""

    def __init__(
        self, width: int, heads: int, *, scope: AttentionScope = "global", conditioned: bool = False, ratio: int = 4
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=not conditioned)
        self.attention = Attention(width, heads, scope)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=not conditioned)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU("tanh"), nn.Linear(ratio * width, width))
        self.modulation = nn.Linear(width, 6 * width) if conditioned else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BNC: Tensor, condition_BC: Tensor | None = None) -> Tensor:
        if self.modulation is None:
            x_BNC = x_BNC + self.attention(self.norm1(x_BNC))
            return x_BNC + self.mlp(self.norm2(x_BNC))  # type: ignore[no-any-return]
        assert condition_BC is not None
        parts = self.modulation(F.silu(condition_BC)).unsqueeze(1).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x_BNC = x_BNC + gate1 * self.attention(self.norm1(x_BNC) * (1 + scale1) + shift1)
        return x_BNC + gate2 * self.mlp(self.norm2(x_BNC) * (1 + scale2) + shift2)  # type: ignore[no-any-return]


class Blocks(nn.Module):
    """Linear in, two-dimensional sine positions, blocks, a final norm and linear out: (B, N, C_in) to (B, N, C_out)."""

    def __init__(
        self, *, width_in: int, width: int, width_out: int, num_blocks: int, heads: int, scope: AttentionScope
    ) -> None:
        super().__init__()
        self.inward = nn.Linear(width_in, width)
        self.blocks = nn.ModuleList(Block(width, heads, scope=scope) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, width_out)

    def forward(self, x_BNC: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """`grid` (rows, columns) adds positions; None adds none."""
        h = self.inward(x_BNC)
        if grid is not None:
            h = h + grid_positions(grid, h.shape[-1]).to(h)
        for block in self.blocks:
            h = block(h)
        return self.outward(self.norm(h))  # type: ignore[no-any-return]


def grid_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines of row and column, (rows x columns, width) in raster order; width divisible by 4."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.cat([sines(axis.flatten().float(), width // 2) for axis in (rows, columns)], dim=-1)


def sines(x: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding of positions or scaled times: (N,) to (N, width)."""
    frequencies = torch.exp(-math.log(longest) * torch.arange(width // 2, device=x.device) / (width // 2))
    angles = x[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def patchify(images_BCHW: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) to (B, N, patch x patch x C), tokens in raster order, channels last inside a token."""
    b, c, h, w = images_BCHW.shape
    cells = images_BCHW.reshape(b, c, h // patch, patch, w // patch, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // patch) * (w // patch), patch * patch * c)


def unpatchify(tokens_BNC: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The inverse of `patchify`."""
    b, c = tokens_BNC.shape[0], tokens_BNC.shape[-1] // patch**2
    cells = tokens_BNC.reshape(b, grid[0], grid[1], patch, patch, c)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(b, c, grid[0] * patch, grid[1] * patch)
