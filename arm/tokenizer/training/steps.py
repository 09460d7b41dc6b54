"""The steps of train-tokenizer: a global batch, its texts on all ranks, and this rank's micro-batches."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from arm.tokenizer.codes import flip_rate, perturb
from arm.tokenizer.loop import Share, generator_at, rank_rows, summed_over_ranks
from arm.tokenizer.training.pairs import Batch, PairStream, PixelReader, deal_rows
from arm.tokenizer.training.trainer import Captions, Inputs, Texts, TokenizerTrainer
from arm.training.engine import num_ranks, rank


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Rows of a global batch, not decoded yet, of one size."""

    step: int
    batch: Batch
    rows: slice
    following: slice | None
    """Rows of the next micro-batch: decoded while this one computes."""
    captions: Captions | None
    texts: Texts | None


class Steps:
    """What `Loop.run` asks for, of a trainer and a stream of pairs."""

    def __init__(self, trainer: TokenizerTrainer, stream: PairStream, reader: PixelReader) -> None:
        self.trainer, self.stream, self.reader = trainer, stream, reader
        self.seed, self.config = trainer.config.seed, trainer.config
        self._thread = ThreadPoolExecutor(1)
        self._coming: Future[Tensor] | None = None

    def draw(self, step: int) -> list[MicroBatch]:
        """This rank's micro-batches of a step; before the first, the losses are measured if their mean is needed."""
        batch = self.stream.next_batch()
        dealt = deal_rows(batch.sizes, num_ranks(), self.config.micro_batch)[rank()]
        texts, captions = self._texts(batch, dealt), self._captions(batch, dealt)
        micro_batches = [
            MicroBatch(step=step, batch=batch, rows=rows, following=after, captions=words, texts=vectors)
            for rows, after, words, vectors in zip(dealt, [*dealt[1:], None], captions, texts, strict=True)
        ]
        if self.trainer.weighting.needs_measure:
            with torch.no_grad():
                shares = [self.trainer.losses(self._inputs(micro_batch)) for micro_batch in micro_batches]
            self.trainer.weighting.update(summed_over_ranks(shares))
            self.trainer.counts.zero_()
        return micro_batches

    def compute(self, micro_batch: MicroBatch) -> Share:
        """The micro-batch's share of the weighted loss and of each loss."""
        shares = self.trainer.losses(self._inputs(micro_batch))
        return self.trainer.weighting(shares), {f"loss/{name}": share.detach() for name, share in shares.items()}

    def after(self, means: dict[str, float]) -> None:
        """Take a step's losses into their running means."""
        self.trainer.weighting.update({name.removeprefix("loss/"): value for name, value in means.items()})

    def _inputs(self, micro_batch: MicroBatch) -> Inputs:
        rows, batch = micro_batch.rows, micro_batch.batch
        return Inputs(
            images_MCHW=self._images(batch, rows, micro_batch.following), batch_size=len(batch),
            generator=generator_at(self.seed, micro_batch.step, rows.start),
            captions=micro_batch.captions, texts=micro_batch.texts,
        )  # fmt: skip

    def _images(self, batch: Batch, rows: slice, following: slice | None) -> Tensor:
        """Pixels of some rows; those that follow are read ahead by a thread."""
        coming, self._coming = self._coming, None
        images = coming.result() if coming is not None else self._read(batch, rows)
        if following is not None:
            self._coming = self._thread.submit(self._read, batch, following)
        return images

    def _read(self, batch: Batch, rows: slice) -> Tensor:
        return self.reader.read(batch.pairs[rows], batch.sizes[rows.start])

    def _texts(self, batch: Batch, dealt: list[slice]) -> list[Texts | None]:
        """Vectors of the whole batch's captions: each rank embeds its rows and all gather them, before any image."""
        if self.trainer.tower is None:
            return [None] * len(dealt)
        captions = [pair.caption for pair in batch.pairs]
        texts_BC = gather_rows(self.trainer.tower.embed(captions[rank_rows(len(captions))]))
        first = {caption: index for index, caption in reversed(list(enumerate(captions)))}
        numbers_B = torch.tensor([first[caption] for caption in captions], device=texts_BC.device)
        return [Texts(texts_BC=texts_BC, numbers_B=numbers_B, numbers_M=numbers_B[rows]) for rows in dealt]

    def _captions(self, batch: Batch, dealt: list[slice]) -> list[Captions | None]:
        """Ids of the long captions that the caption loss reads, and how many tokens the whole step has."""
        if self.trainer.words is None:
            return [None] * len(dealt)
        chosen = [[row for row in range(rows.start, rows.stop) if self._is_captioned(row)] for rows in dealt]
        words = [
            self.trainer.words([batch.pairs[row].description for row in rows]) if rows else None for rows in chosen
        ]
        count = torch.tensor(sum(int(found[1].sum()) for found in words if found is not None))
        if num_ranks() > 1:
            dist.all_reduce(count)
        return [
            Captions(rows=[r - rows.start for r in mine], ids_BT=found[0], lengths_B=found[1], num_tokens=int(count))
            if found is not None
            else None
            for rows, mine, found in zip(dealt, chosen, words, strict=True)
        ]

    def _is_captioned(self, row: int) -> bool:
        """Spread evenly: a fraction of .25 takes rows 3, 7, 11, …"""
        fraction = self.config.caption_fraction
        return int((row + 1) * fraction + 1e-9) > int(row * fraction + 1e-9)


def gather_rows(mine: Tensor) -> Tensor:
    """The rows of all ranks one after the other, as many of each; without a gradient."""
    if num_ranks() == 1:
        return mine
    whole = mine.new_empty(num_ranks() * len(mine), *mine.shape[1:])
    dist.all_gather_into_tensor(whole, mine.contiguous())
    return whole


class CodeWatch:
    """Statistics of codes for the curves: of all training codes since the last time, and flips on a few fixed images.

    digits/flip_rate/noise   digits that differ when two grey levels of noise are added to an image
    digits/flip_rate/steps   digits that differ from those at the last logged step
    """

    def __init__(self, trainer: TokenizerTrainer, probe_BCHW: Tensor) -> None:
        self.trainer = trainer
        self.probe = probe_BCHW
        self.noisy = perturb(probe_BCHW, generator_at(trainer.config.seed))
        self.previous: Tensor | None = None

    def measure(self) -> dict[str, float]:
        """Numbers for the curves; the next call compares with this one."""
        found = self.trainer.code_statistics()
        tokenizer = self.trainer.tokenizer
        tokenizer.eval()
        codes, noisy = tokenizer.encode(self.probe).cpu(), tokenizer.encode(self.noisy).cpu()
        tokenizer.train()
        found["digits/flip_rate/noise"] = float(flip_rate(codes, noisy, tokenizer.levels).mean())
        if self.previous is not None:
            found["digits/flip_rate/steps"] = float(flip_rate(codes, self.previous, tokenizer.levels).mean())
        self.previous = codes
        return found

    def state_dict(self) -> dict[str, Any]:
        """The codes of the last call."""
        return {"previous": self.previous}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from there."""
        self.previous = state["previous"]
