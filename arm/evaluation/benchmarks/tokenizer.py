"""Reconstruction and codes: PSNR and SSIM of each image, Fréchet distance, code usage and perplexity.

results     reference/NAME.png  reconstruction/NAME.png      pairs of images of one size
            or *images*.npz                                  arrays x, y (N, H, W, 3) uint8
            *features*.npz                                   arrays a, b (N, C): a backbone's features of both sides
            *indices*.npz                                    array idx of the whole set's codes, levels of the quantizer

The mean of per-image PSNR is the headline; infinite ones (equal images) are left out and counted. `psnr_pooled`, from the
mean error of the same images, is another number: 23.69 where the mean is 28.17. The backbone's weights are the user's.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm.data.images import flatten
from arm.errors import UserError
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.intervals import Intervals
from arm.evaluation.benchmarks.reading import Files, Source
from arm.evaluation.benchmarks.result import CHECKED, Published, Result, Scored, failed, make_result
from arm.evaluation.items import Pixels
from arm.evaluation.statistics import Estimate

PUBLISHED = Published(
    name="tokenizer", headline="psnr", aggregation="mean of the finite PSNR of each image", published_items=0,
    checked={"all": CHECKED},
)  # fmt: skip
IMAGES = Source(
    what="images and their reconstructions", names=("*images*.npz",), where="your tokenizer, as reference/NAME.png and "
    "reconstruction/NAME.png or an images.npz with x and y", licence="yours",
)  # fmt: skip
FEATURES, INDICES = ("*features*.npz",), ("*indices*.npz", "*codes*.npz")
OURS = (2,) * 16
"""Levels of our quantizer (ARM, section 4.1): what codes without `levels` are read with."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SMALLEST = 11
"""Side of SSIM's window."""


def judge(uid: str, image: Pixels, reference: Pixels) -> Scored:
    """One pair: `psnr` (left out where infinite), `ssim`, `mse` in units of 1/255."""
    import torch

    from arm.tokenizer.metrics import psnr, ssim

    if image.shape != reference.shape:
        return failed(uid, "all", f"the reconstruction is {image.shape}, the reference {reference.shape}")
    if min(image.shape[:2]) < SMALLEST:
        return failed(uid, "all", f"SSIM needs {SMALLEST} pixels a side, the image is {image.shape}")
    pair = [torch.from_numpy(side.copy()).permute(2, 0, 1)[None].double() / 255 for side in (image, reference)]
    error = float((pair[0] - pair[1]).square().mean()) * 255**2
    numbers = {"mse": error, "ssim": float(ssim(*pair)[0])} | ({"psnr": float(psnr(*pair)[0])} if error else {})
    return Scored(
        uid=uid, group="all", outcome="ok", strict=not error, score=numbers["ssim"], numbers=numbers,
        flags=() if error else ("infinite PSNR",),
    )  # fmt: skip


def aggregate(items: Sequence[Scored], intervals: Intervals) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Mean PSNR and SSIM of the images, and the PSNR of the pooled error of those with a finite one."""
    scored = [item for item in items if item.outcome == "ok"]
    finite = [item for item in scored if "psnr" in item.numbers]
    found = {"ssim": intervals.mean([item.numbers["ssim"] for item in scored])} if scored else {}
    if not finite:
        return found, {"psnr_infinite": float(len(scored))}
    found["psnr"] = intervals.mean([item.numbers["psnr"] for item in finite])
    pooled = float(np.mean([item.numbers["mse"] for item in finite]))
    return found, {
        "psnr_pooled": 10 * float(np.log10(255**2 / pooled)), "psnr_infinite": float(len(scored) - len(finite)),
    }  # fmt: skip


def score(results: Files, data: Files, config: ScoreConfig) -> Result:
    """Measure whatever is there: images, features, codes."""
    items = [judge(uid, image, reference) for uid, image, reference in _pairs(results)]
    estimates, details = aggregate(items, Intervals(config))
    details |= _distance(results) | _codes(results)
    if not items and not details.keys() - {"psnr_infinite"}:
        results.find(IMAGES)
    return make_result(
        PUBLISHED, config, items=items, estimates=estimates, num_expected=len(items),
        details=details,
    )  # fmt: skip


def _pairs(results: Files) -> Iterator[tuple[str, Pixels, Pixels]]:
    if name := results.look(IMAGES):
        arrays = _arrays(results, name, ("x", "y"))
        yield from ((f"{number:06d}", *pair) for number, pair in enumerate(zip(arrays["x"], arrays["y"], strict=True)))
        return
    sides = {side: _side(results, side) for side in ("reconstruction", "reference")}
    if alone := sides["reconstruction"].keys() ^ sides["reference"].keys():
        raise UserError(f"{len(alone)} images stand on one side only, such as {min(alone)}; give both or neither.")
    for uid, name in sorted(sides["reconstruction"].items()):
        yield uid, _pixels(results, name), _pixels(results, sides["reference"][uid])


def _side(results: Files, side: str) -> dict[str, str]:
    """Name without folder and ending -> file; UserError where two files have one, of which one would be left out."""
    found: dict[str, str] = {}
    for name in results.names:
        path = PurePosixPath(name)
        if path.parent.name == side and name.lower().endswith(SUFFIXES):
            other = found.setdefault(path.stem, name)
            if other != name:
                raise UserError(
                    f"{results.folder.url} holds {other} and {name}, both called {path.stem}; score them apart."
                )
    return found


def _pixels(results: Files, name: str) -> Pixels:
    """RGB; transparent pixels are white, of 16 bits the high byte counts."""
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(results.folder.read(name))) as picture:
            return np.asarray(flatten(picture))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"{results.folder.url}/{name} cannot be read as an image ({error}).") from None


def _distance(results: Files) -> dict[str, float]:
    if not (names := results.matching(FEATURES)):
        return {}
    from arm.tokenizer.metrics import frechet_distance

    arrays = _arrays(results, names[0], ("a", "b"))
    return {"frechet_distance": frechet_distance(arrays["a"].astype(np.float64), arrays["b"].astype(np.float64))}


def _codes(results: Files) -> dict[str, float]:
    if not (names := results.matching(INDICES)):
        return {}
    import torch

    from arm.tokenizer.metrics import histogram_statistics

    arrays = _arrays(results, names[0], ("idx",))
    levels = [int(level) for level in arrays.get("levels", np.array(OURS))]
    codes = torch.from_numpy(arrays["idx"].astype(np.int64).ravel())
    size = int(np.prod(levels))
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < size:
        raise UserError(f"{names[0]} holds the code {int(codes.max())}; levels {levels} have 0 to {size - 1}.")
    found = histogram_statistics(torch.bincount(codes, minlength=size), levels)
    return {name: found[name] for name in ("code_usage", "perplexity", "perplexity_per_codebook")}


def _arrays(results: Files, name: str, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(results.read(name)), allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
    except (OSError, ValueError) as error:
        raise UserError(f"{results.folder.url}/{name} is no .npz ({error}).") from None
    if missing := [key for key in keys if key not in arrays]:
        raise UserError(f"{name} has no array {', '.join(missing)}; it has {', '.join(arrays)}.")
    return arrays
