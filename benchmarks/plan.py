"""The planner: documents a second against the plain Python one before it, fill and shares at 80K, and 3 billion documents.

    python benchmarks/plan.py              rate, fill, shares; then seek and one segment of the large index
    python benchmarks/plan.py small        rate, fill and shares alone

Rates count CPU time, so that other work on the machine does not show. Ours counts everything: lengths from the index,
order, choice, packing, columns of the rows. The peer (`_planner.plan_before`) gets its lengths ready in lists.

The lengths are a rule of (shard, row), no files: 15,000 shards of 200,000 documents, a kind each.

    text               32 to 4,096 tokens, log-uniform             caption, text_to_image   256 to 1,024 codes, caption 10 to 150
    question           an image and 20 to 400 tokens               edit                     two images, instruction 5 to 40
    interleaved_video  8 to 32 frames of 256 codes, 10 to 60 each  interleaved_web          1 to 6 images, 200 to 2,000 tokens

The stage is the paper's pretraining made 2.5T tokens (305 rows of 80K a step, 100,000 steps), text-to-image falling from
.70 to .55 along a cosine. The cursor of step 90,000 is not reached by planning 2.7 billion documents: each stream is put
where the sum of its shards' tokens says it is by then (`cursor_at`), one step is planned there as a segment of its own,
and the state at its end is written.
A new process reads it: what a seek and a segment cost, from the same kind of state that a plan records every 1,000 steps.
"""

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arm.model.documents import DROP_TEXT, KEEP_ALL, KINDS
from arm.storage import LocalFolder
from arm.training.config import MixtureConfig
from arm.training.plan import files, kernel
from arm.training.plan.planner import Planner, StageShape
from arm.training.plan.rows import Choice, Found, packed_choices
from arm.training.plan.shares import UNIT, parts_of_kinds, tick_edges, tick_shares
from arm.training.plan.streams import Stream
from benchmarks._planner import plan_before

SEED, STEP = 0, 90_000
SMALL_SEGMENT, SMALL_STEPS = 7, 21
STAGE = StageShape(steps=100_000, rows_per_step=305, sequence_length=81_920)
MIXTURE = MixtureConfig(
    text_to_image=((0.0, 0.70, "cosine"), (1.0, 0.55)), interleaved_web=((0.0, 0.05, "cosine"), (1.0, 0.20))
)
KIND_OF_SHARD = [kind for kind, count in zip(KINDS, (13, 3, 5, 68, 3, 6, 2), strict=True) for _ in range(count)]
"""Of a hundred shards."""


class RuleIndex:
    """Documents without files: a shard holds one kind, lengths follow from (shard, row)."""

    identity = "rule"

    def __init__(self, num_shards: int, rows: int) -> None:
        self.num_shards, self.rows = num_shards, rows

    def name(self, shard: int) -> str:
        return f"rule/{shard:05d}"

    def kind(self, shard: int) -> str:
        return KIND_OF_SHARD[shard * 37 % 100]

    def find(self, kind: str, shard: int, epoch: int) -> Found:
        if self.kind(shard) != kind:
            return Found(*(np.zeros(0, np.int32) for _ in range(3)))
        rows = np.arange(self.rows, dtype=np.int32)
        bits = _scattered(rows.astype(np.uint64) + np.uint64(shard << 32))
        text_dropped = (kind == "text_to_image") & (_scattered(bits + np.uint64(epoch)) % np.uint64(10) == 0)
        lengths = _lengths(kind, bits, text_dropped)
        choice = Choice(np.where(text_dropped, DROP_TEXT, KEEP_ALL), 0, 1)
        return Found(rows, packed_choices(choice).astype(np.int32), lengths.astype(np.int32))


def main() -> None:
    """Print what the docstring promises."""
    if sys.argv[1:2] == ["from"]:
        measure_from(Path(sys.argv[2]), segment=sys.argv[3] == "segment")
        return
    small()
    if sys.argv[1:2] == ["small"]:
        return
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        size = cursor_at(STEP, Path(name))
        print(f"cursor of step {STEP:,}: {size:,} bytes, made in {time.perf_counter() - started:.1f} s", flush=True)
        for what in ("step", "segment"):
            subprocess.run([sys.executable, __file__, "from", name, what], check=True)


def small() -> None:
    """Rate against the peer, fill, shares; segments of seven steps, so that there are three ends of them."""
    index = RuleIndex(500, 20_000)
    planner = Planner(index, MIXTURE, replace(STAGE, segment_steps=SMALL_SEGMENT), seed=SEED)
    given = planner.take(STAGE.rows_per_step).tokens_of_kinds()  # compiles, and fills the window
    lags, off, fills, documents, longest = 0.0, [], [], 0, 0
    shares = tick_shares(list(parts_of_kinds(MIXTURE).values()), MIXTURE, step=1, total=STAGE.num_tokens)
    edges = tick_edges(STAGE.num_tokens, len(shares))
    integrals = np.concatenate([np.zeros((1, len(KINDS))), np.cumsum(shares / UNIT * np.diff(edges)[:, None], axis=0)])
    spent = -time.process_time()
    for _ in range(1, SMALL_STEPS):
        rows = planner.take(STAGE.rows_per_step)
        documents += len(rows.kinds)
        spent += time.process_time()
        lags, longest = max(lags, *map(abs, planner.lags.values())), max(longest, int(rows.lengths.max()))
        fills.append(rows.fill(STAGE.sequence_length))
        given += rows.tokens_of_kinds()
        wanted = [np.interp(given.sum(), edges, integrals[:, kind]) for kind in range(len(KINDS))]
        off.append(float(np.abs(given - wanted).max()))
        spent -= time.process_time()
    spent += time.process_time()
    ours = documents / spent
    peer = _peer_rate(index)
    print(
        f"plan {documents:,} documents: ours {ours:,.0f}/s, the planner before {peer:,.0f}/s, ratio {ours / peer:.1f}"
    )
    print(
        f"fill {np.mean(fills):.4%} (least of a step {min(fills):.4%}); largest lag {lags:,.0f} of {longest:,} tokens"
    )
    ends = off[SMALL_SEGMENT - 2 :: SMALL_SEGMENT]
    print(
        f"in the order of rows: at most {max(off):,.0f} tokens off the schedule after each of {len(off)} steps, "
        f"{max(ends):,.0f} at the ends of {len(ends)} segments"
    )


def _peer_rate(index: RuleIndex) -> float:
    """Documents a second of the planner before, with straight lines for cosines and the same lengths."""
    lists = []
    for kind in KINDS:
        stream = Stream(index, kind, MIXTURE, seed=SEED, capacity=STAGE.sequence_length)
        blocks = [stream.next_block() for _ in range(7)]
        lists.append([length for block in blocks if block is not None for length in block.lengths.tolist()])
    parts = parts_of_kinds(MIXTURE).values()
    schedules = [[(point[0], point[1] * float(part)) for point in schedule] for schedule, part in parts]
    started = time.process_time()
    chosen, _ = plan_before(
        schedules, STAGE.num_tokens, [iter(lengths) for lengths in lists], capacity=STAGE.sequence_length,
        max_open=MIXTURE.window_rows, num_rows=600,
    )  # fmt: skip
    return len(chosen) / (time.process_time() - started)


def cursor_at(step: int, folder: Path) -> int:
    """Write the state of a planner at a step, the first of a segment; returns the bytes of the file."""
    index = RuleIndex(15_000, 200_000)
    planner = Planner(index, MIXTURE, replace(STAGE, segment_steps=1), seed=SEED)
    shares = tick_shares(list(parts_of_kinds(MIXTURE).values()), MIXTURE, step=1, total=STAGE.num_tokens)
    tick = len(shares) * step // STAGE.steps
    widths = np.diff(tick_edges(STAGE.num_tokens, len(shares)))[:tick, None]
    read = (shares[:tick] / UNIT * widths).sum(axis=0)
    state = planner.state()
    state["clock"] = [int(widths.sum()), tick, 0, (step - 1) * STAGE.rows_per_step, 0, 0]
    state["streams"] = [_stream_at(index, kind, float(tokens)) for kind, tokens in zip(KINDS, read, strict=True)]
    planner.put_back(state)
    planner.take(STAGE.rows_per_step)
    number = step // STAGE.segment_steps
    files.write_cursor(LocalFolder(folder), number, planner.state(), "")
    return (folder / files.cursor_name(number)).stat().st_size


def _stream_at(index: RuleIndex, kind: str, tokens: float) -> dict[str, object]:
    """The state of a stream that has read so many tokens: whole epochs, then shards of its order, the open ones half read."""
    own = [shard for shard in range(index.num_shards) if index.kind(shard) == kind]
    in_shard = float(index.find(kind, own[0], 0).lengths.sum())  # another shard's sum is within .2%
    epoch, left = divmod(tokens, in_shard * len(own))
    stream = Stream(index, kind, MIXTURE, seed=SEED, capacity=STAGE.sequence_length)
    values = {**stream.before, "epoch": int(epoch), "blocks": 7}
    stream.put_back(values)
    order = [int(shard) for shard in stream.order if index.kind(int(shard)) == kind]
    num_read = min(int(left / in_shard), len(order) - 1)
    still_open = order[max(0, num_read - MIXTURE.shuffle_shards // 2) :][: MIXTURE.shuffle_shards]
    values["next"] = stream.order.tolist().index(still_open[-1]) + 1
    values["drawn"] = num_read * index.rows
    values["found_in_epoch"] = (num_read + 1) * index.rows
    values["open"] = [[shard, index.rows // 2] for shard in still_open]
    return {"before": values, "at_hand": False, "place": 0}


def measure_from(folder: Path, *, segment: bool) -> None:
    """In a process of its own: go to the cursor; make one step, or the whole segment."""
    index, number = RuleIndex(15_000, 200_000), STEP // STAGE.segment_steps
    started, busy = time.perf_counter(), time.process_time()
    planner = Planner(index, MIXTURE, STAGE, seed=SEED)
    if segment:
        before = files.read_cursor(LocalFolder(folder), number)[0]["clock"][kernel.TOKENS]
        digest = files.recomputed_digest(LocalFolder(folder), number, planner, STAGE)
        fill = (planner.tokens - before) / (STAGE.segment_rows * STAGE.sequence_length)  # no row is open at either end
        off = max(map(abs, planner.lags.values()))
        what = f"segment {number} made again, digest {digest[:12]}, fill {fill:.4%}, {off:,.0f} tokens off at its end"
    else:
        planner.put_back(files.read_cursor(LocalFolder(folder), number)[0])
        rows = planner.take(STAGE.rows_per_step)
        what = f"seek to step {STEP:,}, {len(rows.kinds):,} documents"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, spent = time.perf_counter() - started, time.process_time() - busy
    print(f"{what}: {wall:.1f} s ({spent:.1f} s of CPU), {memory:.2f} GiB at most", flush=True)


def _scattered(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _lengths(kind: str, bits: np.ndarray, text_dropped: np.ndarray) -> np.ndarray:
    """Tokens of each document, from 64 random bits each."""

    def between(low: int, high: int, shift: int) -> np.ndarray:
        return low + (
            ((bits >> np.uint64(shift)) & np.uint64(0xFFF)) * np.uint64(high - low + 1) >> np.uint64(12)
        ).astype(np.int64)

    image = between(256, 1_024, 0) + 5
    if kind == "text":
        return _LOG_UNIFORM[(bits & np.uint64(0xFFF)).astype(np.int64)]
    if kind in ("caption", "text_to_image"):
        return image + np.where(text_dropped, 0, between(10, 150, 12))
    if kind == "question":
        return image + between(20, 400, 12)
    if kind == "edit":
        return 2 * image + between(5, 40, 12)
    if kind == "interleaved_video":
        return between(8, 32, 0) * (261 + between(10, 60, 12))
    return between(1, 6, 24) * image + between(200, 2_000, 12)


_LOG_UNIFORM = (32 * 2 ** (np.arange(4_096) * 7 / 4_096)).astype(np.int64)


if __name__ == "__main__":
    main()
