"""Tiny random checkpoints of the image tokenizers that transformers ships, alone and inside a whole model."""

from pathlib import Path
from typing import Any

import torch
import transformers

TEXT = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 64, "pad_token_id": 0,
}  # fmt: skip
VQ = {"embed_dim": 4, "latent_channels": 4, "base_channels": 32, "channel_multiplier": [1, 1, 1], "num_res_blocks": 1}
STRIDE = 4
KINDS = ("emu3", "chameleon", "janus")


def vq_options(kind: str, num_codes: int = 24) -> dict[str, Any]:
    """Options of a tiny tokenizer's config."""
    if kind == "emu3":
        return {**VQ, "codebook_size": num_codes, "hidden_size": 32, "attn_resolutions": [2]}
    return {**VQ, "num_embeddings": num_codes} | ({"num_patches": 3} if kind == "janus" else {"resolution": 12})


def vq_model(kind: str, num_codes: int = 24) -> Any:
    """A random tokenizer whose codes spread over its codebook."""
    stem = kind.capitalize()
    torch.manual_seed(0)
    config = getattr(transformers, f"{stem}VQVAEConfig")(**vq_options(kind, num_codes))
    return _spread(getattr(transformers, f"{stem}VQVAE")(config))


def save_alone(kind: str, folder: Path, num_codes: int = 24) -> Any:
    """Save the tokenizer by itself; returns it."""
    model = vq_model(kind, num_codes)
    model.save_pretrained(folder)
    return model


def save_whole(kind: str, folder: Path) -> Any:
    """Save a whole model; returns the tokenizer inside."""
    stem = kind.capitalize()
    options: dict[str, Any] = {"vq_config": vq_options(kind), "vocabulary_map": {"<image>": 1}}
    if kind == "chameleon":
        options |= TEXT
    else:
        options["text_config"] = TEXT
    if kind == "janus":
        vision = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 12,
            "patch_size": 4,
        }
        options = {"vq_config": options["vq_config"], "text_config": {**TEXT, "model_type": "llama"}}
        options["vision_config"] = {**vision, "projection_dim": 16}
    torch.manual_seed(0)
    model = getattr(transformers, f"{stem}ForConditionalGeneration")(getattr(transformers, f"{stem}Config")(**options))
    inner = _spread(model.model.vqmodel)
    model.save_pretrained(folder)
    return inner


def _spread(model: Any) -> Any:
    """Draw the codebook about as wide as the encoder's outputs, around their mean, so that many codes occur."""
    torch.manual_seed(1)
    convolution = model.quant_conv.conv if hasattr(model.quant_conv, "conv") else model.quant_conv
    found: list[torch.Tensor] = []
    handle = convolution.register_forward_hook(lambda module, inputs, output: found.append(output.detach()))
    pixels = torch.rand(4, 3, 12, 12) * 2 - 1
    with torch.no_grad():
        model.encode(pixels, torch.tensor([[12, 12]] * 4)) if "Emu3" in type(model).__name__ else model.encode(pixels)
        handle.remove()
        outputs = found[0].transpose(0, 1).flatten(1)
        table = model.quantize.embedding.weight
        table.copy_(outputs.mean(dim=1) + torch.randn(table.shape) * outputs.std(dim=1))
    return model.eval()
