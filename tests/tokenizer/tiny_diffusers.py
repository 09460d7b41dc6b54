"""Random pipelines of FLUX.1's and Sana1.5's classes, a few thousand weights each, as diffusers saves them."""

from pathlib import Path
from typing import Any

import torch


def make_pipeline(name: str, folder: Path) -> Path:
    """`folder` with the parts `transformer` and `vae` of "flux" (factor 2, packed 2 x 2) or "sana" (factor 8)."""
    torch.manual_seed(0)
    transformer, vae = _flux() if name == "flux" else _sana()
    transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    return folder


def _flux() -> tuple[Any, Any]:
    import diffusers

    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=20, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
        block_out_channels=(8, 8), latent_channels=4, shift_factor=0.1159, scaling_factor=0.3611,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return transformer, vae


def _sana() -> tuple[Any, Any]:
    import diffusers

    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=24,
        sample_size=8, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides |= {
            f"{side}_block_types": "ResBlock", f"{side}_block_out_channels": (8,) * 4,
            f"{side}_layers_per_block": (1,) * 4, f"{side}_qkv_multiscales": ((),) * 4,
        }  # fmt: skip
    return transformer, diffusers.AutoencoderDC(latent_channels=4, scaling_factor=0.41407, **sides)
