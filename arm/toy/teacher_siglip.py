"""A small SigLIP pair that learns the toy world: whole captions, and the content of every patch.

Beside the sigmoid loss of image and caption, the pooled features of each single patch name that cell's content among
49 phrases: the stand-in for SigLIP2's dense objectives (arXiv 2502.14786, section 2), without which features of so
small a tower would not tell where things are.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from arm.device import autocast
from arm.tokenizer.training.objectives import INITIAL_BIAS, INITIAL_SCALE, sigmoid_loss
from arm.toy.config import SiglipTeacherConfig, TeacherConfig
from arm.toy.scene import COLORS, SHAPES, SIDE
from arm.toy.teacher_training import CONTENTS, Report, Training, contents_of, draw_images, draw_scenes

NOTHING_WEIGHT = 0.2
"""Most cells are empty."""
NUM_TEST = 400


def train(folder: Path, config: TeacherConfig) -> Report:
    """Train, save model and text tokenizer, and measure on held-out scenes."""
    own, drawn = config.siglip, draw_scenes(config, "siglip", config.num_scenes)
    captions = [caption for _, caption in drawn]
    tokenizer = make_text_tokenizer(captions, own.text_length)
    model = make_model(own, tokenizer)
    images, contents = draw_images(scene for scene, _ in drawn), contents_of(scene for scene, _ in drawn)
    ids, phrases = encode(tokenizer, captions), encode(tokenizer, CONTENTS)
    generator = torch.Generator().manual_seed(config.seed)

    def compute(step: int) -> Tensor:
        batch = torch.randint(len(ids), (own.batch_size,), generator=generator)
        return joint_loss(model, images[batch], ids[batch], contents[batch], phrases, own.dense_weight)

    training = Training("siglip", list(model.parameters()), own.num_steps, own.learning_rate)
    training.run(compute)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Report(metrics=measure(model, tokenizer, config), curve=training.curve)


def make_text_tokenizer(texts: list[str], length: int) -> Any:
    """A lower-casing byte-level BPE with `<pad>` and `<eos>`; any UTF-8 text has ids."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([*texts, *CONTENTS], trainer)
    inner.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", model_max_length=length)


def make_model(config: SiglipTeacherConfig, tokenizer: Any) -> Any:
    """A SiglipModel from its config, with the logit scale and bias that SigLIP starts from."""
    from transformers import SiglipConfig, SiglipModel

    shared = {
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_attention_heads": config.num_heads,
    }
    text = {
        "vocab_size": len(tokenizer), "num_hidden_layers": config.num_text_layers, "projection_size": config.width,
        "max_position_embeddings": config.text_length, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    }  # fmt: skip
    vision = {"num_hidden_layers": config.num_vision_layers, "image_size": SIDE, "patch_size": config.patch}
    model = SiglipModel(SiglipConfig(text_config=shared | text, vision_config=shared | vision))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        model.logit_scale.fill_(INITIAL_SCALE)
        model.logit_bias.fill_(INITIAL_BIAS)
    return model


def encode(tokenizer: Any, texts: Any) -> Tensor:
    """Ids padded to the tower's full length."""
    rows = tokenizer(list(texts), padding="max_length", truncation=True)["input_ids"]
    return torch.tensor(rows)


def joint_loss(
    model: Any, images: Tensor, ids: Tensor, contents: Tensor, phrases: Tensor, dense_weight: float
) -> Tensor:
    """The sigmoid loss of captions, and the cross-entropy of each patch's content."""
    with autocast(torch.device("cpu"), "auto"):
        texts = model.text_model(input_ids=torch.cat([ids, phrases])).pooler_output
        seen = model.vision_model(pixel_values=images)
        patches = model.vision_model.head(seen.last_hidden_state.flatten(0, 1).unsqueeze(1))
    same = (ids[:, None] == ids).all(-1)
    loss = sigmoid_loss(seen.pooler_output, texts[: len(ids)], same, model.logit_scale, model.logit_bias)
    if not dense_weight:
        return loss
    cosine = F.normalize(patches.float(), dim=-1) @ F.normalize(texts[len(ids) :].float(), dim=-1).T
    weight = torch.ones(len(CONTENTS))
    weight[0] = NOTHING_WEIGHT
    return loss + dense_weight * F.cross_entropy(cosine * model.logit_scale.exp(), contents.flatten(), weight=weight)


@torch.no_grad()
def measure(model: Any, tokenizer: Any, config: TeacherConfig) -> dict[str, float]:
    """Zero-shot on held-out scenes: 24 classes of one object; and, harder, a caption of two objects with places among
    400; and the content of patches."""
    single = draw_scenes(config, "siglip-test", NUM_TEST, category="colors", split="tuning")
    classes = [f"a photo of a {color} {shape}" for shape in SHAPES for color in COLORS]
    labels = [
        SHAPES.index(scene.objects[0].shape) * len(COLORS) + COLORS.index(scene.objects[0].color) for scene, _ in single
    ]
    pairs = draw_scenes(config, "siglip-hard", NUM_TEST, category="color_attr", split="tuning")
    places = [", ".join(f"a {o.color} {o.shape} at the {o.place}" for o in ordered(scene)) for scene, _ in pairs]
    images = draw_images(scene for scene, _ in pairs)
    patches = model.vision_model(pixel_values=images).last_hidden_state.flatten(0, 1).unsqueeze(1)
    named = nearest(model.vision_model.head(patches), embed_texts(model, tokenizer, CONTENTS))
    truth = contents_of(scene for scene, _ in pairs).flatten()
    found = nearest(embed_images(model, draw_images(s for s, _ in single)), embed_texts(model, tokenizer, classes))
    hard = nearest(embed_images(model, images), embed_texts(model, tokenizer, places))
    return {
        "zero_shot/top1": share(found == torch.tensor(labels)),
        "zero_shot/two_objects_with_places": share(
            torch.tensor([places[index] == place for index, place in zip(hard.tolist(), places, strict=True)])
        ),
        "dense/objects": share((named == truth)[truth > 0]),
        "dense/nothing": share((named == truth)[truth == 0]),
    }


def ordered(scene: Any) -> list[Any]:
    """Objects in reading order."""
    return sorted(scene.objects, key=lambda item: item.cell)


def embed_images(model: Any, images: Tensor) -> Tensor:
    """Image vectors."""
    return F.normalize(model.vision_model(pixel_values=images).pooler_output, dim=-1)


def embed_texts(model: Any, tokenizer: Any, texts: Any) -> Tensor:
    """Text vectors."""
    return F.normalize(model.text_model(input_ids=encode(tokenizer, texts)).pooler_output, dim=-1)


def nearest(vectors: Tensor, classes: Tensor) -> Tensor:
    """Index of the nearest class."""
    return (F.normalize(vectors, dim=-1) @ classes.T).argmax(-1)


def share(right: Tensor) -> float:
    """Share of True, four digits."""
    return round(float(right.float().mean()), 4)
