"""Checkpoints of the rivals' classes with tiny random weights, saved as their authors save theirs."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

NAMED = {
    "image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "image_wrapper_token": "<wrap>",
    "eof_token": "<eof>",
}  # fmt: skip
VISUAL = [f"<|visual token {index:06d}|>" for index in range(8)]
TEXT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
SIDE = {"height": 16, "width": 16}
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def tokenizer() -> Any:
    """One token a byte, and the special ones."""
    special = ["<pad>", "<bos>", "<eos>", *NAMED.values(), "<|extra_200|>", *VISUAL]
    known = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    made = Tokenizer(models.BPE(vocab=known, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", extra_special_tokens=NAMED,
        model_max_length=64,
    )  # fmt: skip
    fast.add_tokens(["<|extra_200|>", *VISUAL], special_tokens=True)
    return fast


def save_llava(folder: Path) -> Path:
    """A vision-language model: 4 patches an image."""
    words = tokenizer()
    torch.manual_seed(0)
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION), text_config=hf.LlamaConfig(vocab_size=len(words), **TEXT),
        image_token_index=words.image_token_id, vision_feature_layer=-1, image_seq_length=4,
    )  # fmt: skip
    hf.LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = hf.CLIPImageProcessorPil(size=SIDE, crop_size=SIDE)
    hf.LlavaProcessor(
        images, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_janus(folder: Path) -> Path:
    """Draws 2 × 2 tokens as 4 × 4 pixels."""
    words = tokenizer()
    torch.manual_seed(0)
    config = hf.JanusConfig(
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        vision_config={**VISION, "projection_dim": 16, "num_image_tokens": 4, "depth": 1},
        vq_config={
            "embed_dim": 4, "num_embeddings": 8, "latent_channels": 32, "base_channels": 32, "projection_dim": 16,
            "channel_multiplier": [1, 1], "num_res_blocks": 1, "image_token_embed_dim": 16,
        },
        image_token_id=words.image_token_id,
    )  # fmt: skip
    model = hf.JanusForConditionalGeneration(config)
    settings = model.generation_config
    settings.pad_token_id, settings.bos_token_id = words.pad_token_id, words.bos_token_id
    settings.generation_kwargs = {"boi_token_id": words.boi_token_id}
    model.save_pretrained(folder)
    hf.JanusProcessor(hf.JanusImageProcessorPil(size=SIDE), words, num_image_tokens=4).save_pretrained(folder)
    return folder


def save_emu3(folder: Path) -> Path:
    """Draws 2 × 2 tokens as 16 × 16 pixels."""
    words = tokenizer()
    torch.manual_seed(0)
    config = hf.Emu3Config(
        text_config=hf.Emu3TextConfig(
            vocab_size=len(words), pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id, **TEXT,
        ),
        vq_config=hf.Emu3VQVAEConfig(
            codebook_size=8, embed_dim=4, latent_channels=4, base_channels=32, channel_multiplier=[1, 1, 1, 1],
            num_res_blocks=1, hidden_size=32, attn_resolutions=[],
        ),
        vocabulary_map={**words.get_vocab()},
    )  # fmt: skip
    hf.Emu3ForConditionalGeneration(config).save_pretrained(folder)
    hf.Emu3Processor(hf.Emu3ImageProcessor(min_pixels=256, max_pixels=1024), words).save_pretrained(folder)
    return folder


def save_flux(folder: Path) -> Path:
    """FLUX's pipeline: two text encoders, a transformer of one layer of each sort, an autoencoder of stride 1."""
    import diffusers

    words = tokenizer()
    torch.manual_seed(0)
    clip = hf.CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=32, num_attention_heads=4, num_hidden_layers=1,
        max_position_embeddings=77, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )  # fmt: skip
    t5 = hf.T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    pipeline = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=hf.CLIPTextModel(clip), text_encoder_2=hf.T5EncoderModel(t5), tokenizer=words, tokenizer_2=words,
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(4,), layers_per_block=1, latent_channels=1, norm_num_groups=1, use_quant_conv=False,
            use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5,
        ),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
