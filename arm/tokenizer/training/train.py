"""train-tokenizer: the trained half of the visual tokenizer under four losses (section 3.1, Eq. 4), data-parallel.

tokenizer/                      what `VisualTokenizer.from_pretrained` loads
caption_vectors.safetensors     what the caption model learned to read for each code, when there is a caption loss
curves.jsonl                    losses, gradient norm and statistics of codes at the logged steps
codes.json                      per digit over held-out images: balance, flip rate, correlations
samples/reconstruction.png      held-out images and what the pixel DiT makes of their codes
"""

import json

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from arm.data.shards import shard_paths
from arm.device import make_deterministic, rank_device
from arm.manifest import Manifest, Outcome
from arm.model.lmm import CAPTION_VECTORS
from arm.storage import Folder, publish_tree
from arm.tokenizer.config import TokenizerConfig
from arm.tokenizer.encoder import FrozenEncoder
from arm.tokenizer.loop import Loop
from arm.tokenizer.pictures import save_sheet
from arm.tokenizer.training.pairs import PairStream, PixelReader, draw_size
from arm.tokenizer.training.steps import CodeWatch, Steps
from arm.tokenizer.training.trainer import TokenizerTrainer
from arm.tokenizer.training.validation import HeldOut, Validation, probe_images, read_held_out
from arm.tokenizer.visual import VisualTokenizer
from arm.training.checkpoint import Checkpoints
from arm.training.engine import patient_group, rank, start_process_group

CODES_AT_ONCE = 4_096
"""Codes whose features exist at once."""


def train_tokenizer(
    *, images: Manifest, encoder: Manifest, caption_model: Manifest, output: Folder, config: TokenizerConfig
) -> Outcome:
    """Train the projections on captioned images; every rank calls this, rank 0 publishes."""
    make_deterministic(config.seed, config.threads)
    start_process_group()
    patient = patient_group()
    shards, folder = shard_paths(images), encoder.local_folder("model")
    tokenizer = VisualTokenizer(FrozenEncoder.from_pretrained(folder), config.quantizer)
    trainer = TokenizerTrainer(tokenizer, config, caption_model.local_folder("model"), folder).to(rank_device())
    sizing = draw_size(config.resolutions, tokenizer.stride, config.seed)
    held_out = read_held_out(shards, sizing, config.num_held_out, images.tombstones)
    stream = PairStream(
        shards, sizing=sizing, batch_size=config.batch_size, seed=config.seed, window_shards=config.window_shards,
        refused=images.tombstones,
    )  # fmt: skip
    reader = PixelReader(config.cache_bytes, config.decode_threads)
    loop = fit(trainer, stream, reader, CodeWatch(trainer, probe_images(held_out, reader)), output)
    validation = Validation(trainer, reader, folder)
    metrics = publish(validation, held_out, loop, output) if rank() == 0 else {}
    dist.barrier(patient)
    seen = {"images_seen": config.num_steps * config.batch_size, "images_left_over": stream.left_over}
    counts = {"steps": config.num_steps, **seen, "held_out": sum(len(pairs) for pairs in held_out.values())}
    return Outcome(counts=counts, metrics={name: round(value, 4) for name, value in metrics.items()})


def fit(trainer: TokenizerTrainer, stream: PairStream, reader: PixelReader, watch: CodeWatch, output: Folder) -> Loop:
    """Train to the last step, from the last checkpoint on."""
    config, steps = trainer.config, Steps(trainer, stream, reader)
    loop = Loop(
        "train-tokenizer", trainer, config.optimizer, num_steps=config.num_steps,
        parts={"stream": stream, "watch": watch}, checkpoints=Checkpoints.of(output),
        save_every=config.save_every, log_every=config.log_every, ema_decay=config.ema_decay,
        after_step=steps.after, measure=watch.measure,
    )  # fmt: skip
    trainer.train()
    loop.run(steps.draw, steps.compute)
    loop.finish()
    trainer.eval()
    return loop


def publish(validation: Validation, held_out: HeldOut, loop: Loop, output: Folder) -> dict[str, float]:
    """Measure the trained tokenizer and write what the job makes."""
    metrics = validation.run(held_out)
    if validation.samples is not None:
        save_sheet(output, "samples/reconstruction.png", *validation.samples)
    output.write("codes.json", (json.dumps(validation.digits(), indent=1, sort_keys=True) + "\n").encode())
    output.write("curves.jsonl", ("\n".join(loop.curves) + "\n").encode())
    validation.trainer.tokenizer.save_pretrained(output.scratch("export"))
    publish_tree(output, "tokenizer", output.scratch("export"))
    if validation.trainer.caption is not None:
        output.write(CAPTION_VECTORS, safetensors.torch.save({"codes": caption_vectors(validation.trainer)}))
    return metrics


@torch.no_grad()
def caption_vectors(trainer: TokenizerTrainer) -> Tensor:
    """What the caption model reads for each code that stands alone, a grid of 1×1: (codes, C) bfloat16."""
    assert trainer.caption is not None
    codes = torch.arange(trainer.tokenizer.num_codes).view(-1, 1, 1)
    chunks = torch.split(codes, CODES_AT_ONCE)
    rows = [trainer.caption.adapter(trainer.tokenizer.embed(some)).squeeze(1) for some in chunks]
    return torch.cat([row.bfloat16().cpu() for row in rows])
