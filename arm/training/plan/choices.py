"""What is drawn for each document, because it changes its length: a function of (seed, uid, epoch, kind) alone.

drop        text-to-image loses its text; an edit its instruction, its source image, or both
variant     the texts are exchanged for one of their variants
stride      of a video, every k-th frame is kept
resolution  of a sample that lies in several variants of the token shards, the one that is read
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from arm.model.documents import DROP_BOTH, DROP_IMAGE, DROP_TEXT, KEEP_ALL, KINDS
from arm.model.sampling import mix64
from arm.training.config import MixtureConfig

Keys = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
DROP, VARIANT, STRIDE, RESOLUTION = range(4)
"""Which of a document's random numbers decides what."""


def uniforms(uid_keys: Keys, kind: str, what: int, *, seed: int, epoch: int) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each document."""
    with np.errstate(over="ignore"):
        salt = mix64(np.asarray([seed, epoch, KINDS.index(kind) + (what << 8)], dtype=np.uint64) + np.uint64(1))
        mixed = mix64(mix64(uid_keys ^ salt[0]) + salt[1] ^ salt[2])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_drops(uid_keys: Keys, kind: str, mixture: MixtureConfig, *, seed: int, epoch: int) -> Integers:
    """What each document loses in this epoch."""
    if kind not in ("text_to_image", "edit"):
        return np.full(len(uid_keys), KEEP_ALL)
    uniform = uniforms(uid_keys, kind, DROP, seed=seed, epoch=epoch)
    if kind == "text_to_image":
        return np.where(uniform < mixture.drop_text, DROP_TEXT, KEEP_ALL)
    edges = np.cumsum([mixture.edit_drop_text, mixture.edit_drop_image, mixture.edit_drop_both])
    outcomes = np.asarray([DROP_TEXT, DROP_IMAGE, DROP_BOTH, KEEP_ALL])
    return outcomes[np.searchsorted(edges, uniform, side="right")]


def draw_variants(
    uid_keys: Keys, num_variants: Integers, kind: str, mixture: MixtureConfig, *, seed: int, epoch: int
) -> Integers:
    """Which text: 0 is the own one, else one of the document's `num_variants`, all equally likely.

    variant_share .5, two variants  ->  0 half of the time, 1 and 2 a quarter each
    """
    if mixture.variant_share == 0 or not num_variants.any():
        return np.zeros(len(uid_keys), np.int64)
    uniform = uniforms(uid_keys, kind, VARIANT, seed=seed, epoch=epoch)
    exchanged = 1 + np.floor(uniform / mixture.variant_share * num_variants).astype(np.int64)
    return np.where((uniform < mixture.variant_share) & (num_variants > 0), np.minimum(exchanged, num_variants), 0)


def draw_strides(uid_keys: Keys, kind: str, mixture: MixtureConfig, *, seed: int, epoch: int) -> Integers:
    """Which frames of a video: every k-th, k equally likely among the declared strides; else 1."""
    if kind != "interleaved_video" or mixture.frame_strides == (1,):
        return np.ones(len(uid_keys), np.int64)
    uniform = uniforms(uid_keys, kind, STRIDE, seed=seed, epoch=epoch)
    return np.asarray(mixture.frame_strides, np.int64)[(uniform * len(mixture.frame_strides)).astype(np.int64)]


def reads_resolution(
    uid_keys: Keys, kind: str, weights: Sequence[float], chosen: int, *, seed: int, epoch: int
) -> npt.NDArray[np.bool_]:
    """Of samples that lie in several variants with these weights: whether this epoch reads them in the chosen one."""
    edges = np.cumsum(weights) / np.sum(weights)
    uniform = uniforms(uid_keys, kind, RESOLUTION, seed=seed, epoch=epoch)
    drawn = np.minimum(np.searchsorted(edges, uniform, side="right"), len(weights) - 1)
    found: npt.NDArray[np.bool_] = drawn == chosen
    return found
