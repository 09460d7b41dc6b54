"""A diffusion transformer conditioned on the features of codes: the pixel DiT and the detokenizer's latent DiT.

Every token of the DiT lies inside the area of one code; the code's features are mapped to one vector per token of its
area and added, so position says which code belongs where. Time enters by adaLN-Zero (DiT, arXiv 2212.09748).
"""

from torch import Tensor, nn

from arm.errors import UserError
from arm.tokenizer.blocks import Block, grid_positions, patchify, sines, unpatchify
from arm.tokenizer.config import FlowConfig

TIME_SCALE = 1000.0


class ConditionedDiT(nn.Module):
    """Predicts velocity or x_1 of (B, channels, rows x area, columns x area) from it, the time and the condition.

    `beside` more channels of the input are given but not predicted.
    """

    def __init__(self, config: FlowConfig, *, channels: int, area: int, width_condition: int, beside: int = 0) -> None:
        super().__init__()
        if area % config.patch:
            raise UserError(
                f"FlowConfig.patch is {config.patch}; it must divide the {area} positions that a code covers."
            )
        self.config, self.area, self.split = config, area, area // config.patch
        size, width = channels * config.patch**2, config.width
        self.inward = nn.Linear(size + beside * config.patch**2, width)
        self.condition = nn.Linear(width_condition, width * self.split**2)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, config.num_heads, conditioned=True) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, size)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)
        self.skip = nn.Linear(width_condition, channels * area**2) if config.skip else None

    def forward(self, x_BCHW: Tensor, times_B: Tensor, features_BNC: Tensor) -> Tensor:
        """(B, C, H, W), times (B,), features of codes (B, N, C') in raster order of the codes' grid."""
        grid = (x_BCHW.shape[2] // self.config.patch, x_BCHW.shape[3] // self.config.patch)
        codes = (grid[0] // self.split, grid[1] // self.split)
        h = self.inward(patchify(x_BCHW, self.config.patch)) + self._spread(features_BNC, codes)
        h = h + grid_positions(grid, self.config.width).to(h)
        time = self.time(sines(times_B * TIME_SCALE, self.config.width))
        for block in self.blocks:
            h = block(h, time)
        out = unpatchify(self.outward(self.norm(h)).float(), grid, self.config.patch)
        if self.skip is None:
            return out
        return out + unpatchify(self.skip(features_BNC).float(), codes, self.area)

    def _spread(self, features_BNC: Tensor, codes: tuple[int, int]) -> Tensor:
        """One vector per DiT token: (B, N, C') to (B, tokens, width), in raster order of the tokens."""
        if self.split == 1:
            return self.condition(features_BNC)  # type: ignore[no-any-return]
        return patchify(unpatchify(self.condition(features_BNC), codes, self.split), 1)
