"""Heads on embeddings, with numbers worked out by hand, and the share of text."""

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from pictures import artifact, captioned, picture, shards, tiny_siglip
from safetensors.numpy import save_file

from arm.data.config import CurateConfig, HeadConfig, ScoreBound, SourceRule
from arm.data.curation import curate_images
from arm.data.heads import load_head
from arm.data.shards import read_shard
from arm.data.text_area import measure_text_area
from arm.errors import UserError
from arm.storage import LocalFolder


def weights(path: Path, **tensors: list[object]) -> str:
    named = {name.replace("__", "."): np.array(values, np.float32) for name, values in tensors.items()}
    save_file(named, path)
    return str(path)


def test_a_head_of_two_layers_gives_what_they_give_by_hand(tmp_path: Path) -> None:
    """[3, 4] -> [.6, .8] -> [.6 + .8, .6 - .8 - 1] = [1.4, -1.2] -> 2 · 1.4 + 10 · -1.2 + 1 = -8.2, with ReLU 3.8."""
    path = weights(
        tmp_path / "a.safetensors", layers__2__weight=[[2, 10]], layers__2__bias=[1],
        layers__0__weight=[[1, 1], [1, -1]], layers__0__bias=[0, -1],
    )  # fmt: skip
    batch = np.array([[3, 4]], np.float32)
    assert load_head(HeadConfig(name="a", path=path))(batch) == pytest.approx([-8.2])
    assert load_head(HeadConfig(name="a", path=path, activation="relu"))(batch) == pytest.approx([3.8])
    assert load_head(HeadConfig(name="a", path=path, activation="relu", sigmoid=True))(batch) == pytest.approx(
        [0.9781187]
    )
    assert load_head(HeadConfig(name="a", path=path, normalise=False))(batch) == pytest.approx([2 * 7 + 10 * -2 + 1])


def test_layers_are_taken_by_number_not_by_spelling(tmp_path: Path) -> None:
    path = weights(tmp_path / "a.safetensors", l10__weight=[[1, 1]], l9__weight=[[1, 0], [0, 2]])
    assert load_head(HeadConfig(name="a", path=path, normalise=False))(np.array([[1, 1]], np.float32)) == [3]


def test_what_is_no_head_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(b"\x80\x04junk")
    with pytest.raises(UserError, match="is no safetensors file"):
        load_head(HeadConfig(name="a", path=str(tmp_path / "pickle")))
    path = weights(tmp_path / "b.safetensors", x__weight=[[1, 2], [3, 4]])
    with pytest.raises(UserError, match=r"no chain of linear layers with one output; it holds x \(2, 2\)"):
        load_head(HeadConfig(name="a", path=path))
    head = load_head(HeadConfig(name="a", path=weights(tmp_path / "c.safetensors", x__weight=[[1, 2]])))
    with pytest.raises(UserError, match="reads embeddings of width 2, the scorer gives 3"):
        head(np.zeros((1, 3), np.float32))


def test_a_bound_on_a_head_drops_under_its_name_and_every_score_is_a_column(tmp_path: Path) -> None:
    tiny_siglip(tmp_path / "weights" / "model")
    rng = np.random.default_rng(0)
    path = weights(tmp_path / "nsfw.safetensors", x__weight=rng.normal(size=(1, 16)).tolist())
    samples = [captioned(str(seed), picture(seed), f"picture {seed}") for seed in range(8)]
    inputs = {"crawled": shards(tmp_path / "a", *samples), "scorer": artifact(tmp_path / "weights", "weights")}

    def curated(name: str, maximum: float) -> dict[str, int]:
        config = CurateConfig(
            rules=(SourceRule(scores=(ScoreBound(score="nsfw", maximum=maximum),)),),
            heads=(HeadConfig(name="nsfw", path=path),), workers=1,
        )  # fmt: skip
        return curate_images(output=LocalFolder(tmp_path / name), config=config, **inputs).counts  # type: ignore[arg-type]

    assert curated("all", 9.0)["samples_kept"] == 8
    values = [sample.scores["nsfw"] for sample in read_shard(tmp_path / "all/shards/crawl-00000.tar")]
    assert len(set(values)) == 8
    counts = curated("half", sorted(values)[3])
    assert (counts["samples_kept"], counts["dropped/nsfw"]) == (4, 4)


def test_a_bound_on_a_score_that_no_head_gives_is_refused() -> None:
    with pytest.raises(UserError, match=r"bounds the score 'nfsw', which no head gives \(none\)"):
        CurateConfig(rules=(SourceRule(scores=(ScoreBound(score="nfsw", maximum=0.5),)),))


@pytest.mark.parametrize("size", [12, 24, 40])
def test_the_lines_of_a_printed_page_are_its_text(size: int) -> None:
    page = PIL.Image.new("L", (256, 256), 255)
    pen, font = PIL.ImageDraw.Draw(page), PIL.ImageFont.load_default(size)
    tops = range(0, 128, size + 2)
    for top in tops:
        pen.text((0, top), "the quick brown fox jumps over the lazy dog " * 2, font=font, fill=0)
    grey = np.asarray(page, np.float32)
    assert measure_text_area(grey[None])[0] == pytest.approx(len(tops) * (size + 2) / 256, abs=0.1)
    assert measure_text_area(np.stack([grey, np.full_like(grey, 255)]))[1] == 0


def test_pictures_without_text_have_none() -> None:
    pictures = np.stack([picture(seed, 128, 128) for seed in range(8)]).astype(np.float32).mean(axis=3)
    assert measure_text_area(pictures).max() < 0.02
    assert measure_text_area(np.zeros((2, 5, 900), np.float32)).tolist() == [0, 0]
