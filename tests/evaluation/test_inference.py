"""What a user asks of a release, on made-up models, and the sentences for what cannot be."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from made_up_models import Drawer, GreyDetokenizer, GreyTokenizer
from made_up_store import add

from arm.errors import UserError
from arm.evaluation.config import EvaluateConfig, SamplingConfig
from arm.evaluation.inference import PARTS, Release, ask, edit, generate, load_release, read_image
from arm.evaluation.subject import Subject, Tools
from arm.model.generation import Generator
from arm.tokenizer.config import ResolutionConfig


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Release:
    """A release that draws grey 16 times (the seed mod 8)."""
    monkeypatch.setattr(Tools, "tokenizer", GreyTokenizer())
    monkeypatch.setattr(Tools, "detokenizer", GreyDetokenizer())
    config = EvaluateConfig(image_size=8)
    tools = Tools(tokenizer=Path("t"), detokenizer=Path("d"), encoder=None, config=config)
    return Release(subject=Subject(name="release", tools=tools, generator=Drawer(0)))  # type: ignore[arg-type]


def test_an_image_is_drawn_at_the_models_size_and_follows_the_seed(release: Release) -> None:
    image = generate(release, "a grey square", seed=3)
    assert image.size == (8, 8)
    assert image.getpixel((0, 0)) == (48, 48, 48)
    assert generate(release, "a grey square", seed=4).getpixel((0, 0)) == (64, 64, 64)


def test_an_edit_keeps_the_aspect_ratio_of_its_source(release: Release, tmp_path: Path) -> None:
    """Grey 32 is code 2, drawn as 3: grey 48. Of 40 x 20 pixels the longer side becomes 8."""
    PIL.Image.new("RGB", (40, 20), (32, 32, 32)).save(tmp_path / "source.png")
    image = edit(release, tmp_path / "source.png", "make it lighter")
    assert image.size == (8, 4)
    assert image.getpixel((0, 0)) == (48, 48, 48)


def test_a_question_is_answered(release: Release, tmp_path: Path) -> None:
    PIL.Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    assert ask(release, tmp_path / "grey.png", "how many?") == "two"


def test_a_photograph_that_exif_turns_is_edited_upright(release: Release, tmp_path: Path) -> None:
    """40 × 20 pixels, to be turned by a quarter: 20 × 40, of which the longer side becomes 8."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (40, 20), (32, 32, 32)).save(tmp_path / "photograph.jpg", exif=exif)
    assert edit(release, tmp_path / "photograph.jpg", "make it lighter").size == (4, 8)


def test_transparent_pixels_are_laid_on_white(tmp_path: Path) -> None:
    PIL.Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.array_equal(read_image(tmp_path / "clear.png"), np.full((2, 2, 3), 255))


def test_wrong_requests_are_one_sentence(release: Release, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(UserError, match=r"page\.png cannot be read as an image"):
        ask(release, tmp_path / "page.png", "what?")
    with pytest.raises(UserError, match="cannot be read as an image"):
        edit(release, tmp_path / "absent.png", "make it red")
    with pytest.raises(UserError, match="The prompt is empty"):
        generate(release, "  ")


def test_what_is_said_of_sampling_holds_for_edits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Generator, "from_pretrained", lambda *_: Drawer(0))
    for name in PARTS:
        (tmp_path / name).mkdir()
    config = load_release(tmp_path, image_size=8, sampling=SamplingConfig(temperature=0.3)).subject.config
    assert config.sampling.temperature == config.edit_temperature == 0.3


def test_a_release_reads_images_at_the_sizes_of_its_evaluation_unless_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generator, "from_pretrained", lambda *_: Drawer(0))
    for name in PARTS:
        (tmp_path / name).mkdir()
    edits = {"min_short_side": 512, "max_long_side": 1024}
    record = {"sizes": {"image_size": 1024, "edit_resolution": edits}}
    (tmp_path / "release.json").write_text(json.dumps(record))
    config = load_release(tmp_path).subject.config
    assert (config.image_size, config.editing, config.reading) == (
        1024, ResolutionConfig(**edits), ResolutionConfig(min_short_side=1024, max_long_side=1024),
    )  # fmt: skip
    assert load_release(tmp_path, image_size=8).subject.config.editing == ResolutionConfig.within(8)


def test_only_a_release_is_loaded(tmp_path: Path) -> None:
    add(tmp_path, "02-model", "train-model", "model")
    with pytest.raises(UserError, match="of the kind 'model'; give the folder of a release"):
        load_release(str(tmp_path / "02-model"))
    with pytest.raises(UserError, match="holds no manifest"):
        load_release(str(tmp_path / "nothing"))
