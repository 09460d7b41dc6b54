"""Drawing images token by token: ours against transformers' generate, in one process, in turn, batch 16, one thread.

    python benchmarks/sampling.py [--model 17m toy] [--side 8] [--rounds 3] [--dtype float32]

Both draw side × side codes for each of 16 prompts of differing texts from the same weights, greedily, and in float32 must draw
the same codes; only then are they timed, in CPU time, so that other work on the machine does not show. In bfloat16 roundings
decide between likely codes of random weights: how many codes agree is printed. The peer has a
static cache, a logits processor that adds one ready mask of the allowed rows (the cheapest form of our grammar), and
with guidance its own processor (`guidance_scale`), which runs the branch without text as a second forward pass.

    17m    17.0M parameters: width 384, 8 layers, 6 heads (2 for keys and values), MLP 1,024; 1,600 rows of text, 32
           sides, 4,096 codes
    toy    2.5M parameters, as in the toy recipe: width 192, 5 layers, 6 heads (2), MLP 512; 768 rows, 128 sides, 512 codes

A round without and with guidance takes about 15 seconds of CPU for `17m` at side 8 on a slow core.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.model.generation import Generator, Prompt, Sampling
from arm.model.vocabulary import Vocabulary
from benchmarks._pairs import compare

BATCH = 16
GEOMETRIES: dict[str, dict[str, int]] = {
    "17m": {
        "width": 384, "layers": 8, "heads": 6, "kv_heads": 2, "mlp": 1_024, "text": 1_600, "sides": 32, "codes": 4_096,
    },
    "toy": {"width": 192, "layers": 5, "heads": 6, "kv_heads": 2, "mlp": 512, "text": 768, "sides": 128, "codes": 512},
}  # fmt: skip


class Letters:
    """A text tokenizer of ASCII letters."""

    def __call__(self, texts: Sequence[str], **unused: Any) -> dict[str, list[list[int]]]:
        """Ids of each text."""
        return {"input_ids": [list(text.encode("ascii")) for text in texts]}


class AllowedRows:
    """The peer's logits processor: one addition."""

    def __init__(self, size: int, allowed: slice) -> None:
        self.mask = torch.full((size,), float("-inf"))
        self.mask[allowed] = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores with −inf outside the allowed rows."""
        return scores + self.mask


def build(geometry: dict[str, int]) -> tuple[Any, Vocabulary]:
    """A model with random weights and its vocabulary."""
    torch.manual_seed(0)
    vocabulary = Vocabulary(
        num_text=geometry["text"], num_shapes=geometry["sides"], num_codes=geometry["codes"], vision_start=129,
        vision_end=130, image_pad=131, end_of_text=128, answer_start=132, answer_end=133, visual_fingerprint="",
    )  # fmt: skip
    shape = Qwen2Config(
        vocab_size=vocabulary.size, hidden_size=geometry["width"], intermediate_size=geometry["mlp"],
        num_hidden_layers=geometry["layers"], num_attention_heads=geometry["heads"],
        num_key_value_heads=geometry["kv_heads"], tie_word_embeddings=False, initializer_range=0.05,
    )  # fmt: skip
    return Qwen2ForCausalLM(shape).eval(), vocabulary


def drawers(generator: Generator, peer: Any, side: int, guidance: float) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours and theirs: each draws the codes (batch, side²) of all prompts."""
    vocabulary, num_codes = generator.vocabulary, side * side
    prompts: list[Prompt] = [(f"{number} red circles left of a blue square",) for number in range(10, 10 + BATCH)]
    ids, empty = (
        torch.tensor([generator.prompt_ids(prompt, (side, side)) for prompt in some])
        for some in (prompts, [()] * BATCH)
    )
    sampling = Sampling(temperature=0.0, guidance_text=guidance)
    rules = LogitsProcessorList([AllowedRows(vocabulary.size, vocabulary.code_rows)])
    settings: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids), "max_new_tokens": num_codes, "do_sample": False, "pad_token_id": 128,
        "cache_implementation": "static", "logits_processor": rules,
    }  # fmt: skip
    if guidance != 1:
        settings |= {"guidance_scale": guidance, "negative_prompt_ids": empty}
        settings |= {"negative_prompt_attention_mask": torch.ones_like(empty)}

    def ours() -> Any:
        made = generator.generate_images(prompts, (side, side), sampling, range(BATCH))
        return made.codes_BHW.view(BATCH, num_codes)

    def theirs() -> Any:
        return peer.generate(ids, **settings)[:, ids.shape[1] :] - vocabulary.first_code

    return ours, theirs


def main() -> None:
    """Compare at each geometry, without and with guidance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=sorted(GEOMETRIES), default=["17m", "toy"])
    parser.add_argument("--side", type=int, default=8, help="codes of a side of the image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="type that is timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.model:
        model, vocabulary = build(GEOMETRIES[name])
        parameters = sum(parameter.numel() for parameter in model.parameters())
        peer, generator = copy.deepcopy(model), Generator(model, vocabulary, Letters())
        works = {guidance: drawers(generator, peer, options.side, guidance) for guidance in (1.0, 1.5)}
        for ours, theirs in works.values():
            assert torch.equal(ours(), theirs()), "not the same codes"
        for each in (model, peer):
            each.to(getattr(torch, options.dtype))
        for guidance, (ours, theirs) in works.items():
            tokens = BATCH * options.side**2
            if options.dtype != "float32":
                print(f"codes that agree in {options.dtype}: {(ours() == theirs()).float().mean():.3f}")
            compare(
                f"{name}, {parameters / 1e6:.1f}M parameters, {options.dtype}, {options.side}x{options.side} codes, "
                f"guidance {guidance}",
                lambda ours=ours, tokens=tokens: (ours(), tokens)[1],
                {"transformers.generate": lambda theirs=theirs, tokens=tokens: (theirs(), tokens)[1]},
                rounds=options.rounds,
                clock=time.process_time,
            )


if __name__ == "__main__":
    main()
