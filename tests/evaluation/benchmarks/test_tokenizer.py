"""Tokenizer metrics from files: the libraries' numbers on made images, features and codes."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from arm.errors import UserError
from arm.evaluation.benchmarks import tokenizer
from arm.evaluation.benchmarks.config import ScoreConfig
from arm.evaluation.benchmarks.reading import open_files


def test_images_features_and_codes_give_the_libraries_numbers(shared: Path, tmp_path: Path) -> None:
    folder = shared / "evaldata/tokenizer"
    expected = json.loads((folder / "made_expected.json").read_text())
    for name in ("made_images.npz", "made_features.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    codes = np.load(folder / "made_indices.npz")["idx"]
    np.savez(tmp_path / "indices.npz", idx=codes, levels=expected["codebook"]["levels"])
    files = open_files(str(tmp_path))
    found = tokenizer.score(files, files, ScoreConfig())
    assert found.scores.estimates["psnr"].value == pytest.approx(expected["aggregate"]["psnr_mean_per_image"], abs=1e-4)
    assert found.details["psnr_pooled"] == pytest.approx(
        expected["aggregate"]["psnr_pooled_mse_torchmetrics_default"], abs=1e-4
    )
    assert found.details["psnr_infinite"] == 2
    assert [item.numbers["ssim"] for item in found.items] == pytest.approx(
        [row["ssim_torchmetrics_default"] for row in expected["per_image"]], abs=1e-4
    )
    assert [item.numbers["mse"] for item in found.items] == pytest.approx(
        [row["mse_255"] for row in expected["per_image"]]
    )
    assert found.details["frechet_distance"] == pytest.approx(expected["fid_torch_fidelity_on_made_features"], abs=1e-4)
    assert found.details["code_usage"] == expected["codebook"]["usage"]
    assert found.details["perplexity"] == pytest.approx(expected["codebook"]["perplexity_exact"], abs=1e-4)


def test_pairs_of_pictures(tmp_path: Path) -> None:
    """All pixels 10 of 255 apart: 20 log10(25.5) = 28.131 dB."""
    for side, value in (("reference", 100), ("reconstruction", 110)):
        (tmp_path / side).mkdir()
        PIL.Image.fromarray(np.full((12, 12, 3), value, dtype=np.uint8)).save(tmp_path / side / "a.png")
    files = open_files(str(tmp_path))
    found = tokenizer.score(files, files, ScoreConfig())
    assert found.scores.estimates["psnr"].value == pytest.approx(28.131, abs=1e-3)
    (tmp_path / "reference" / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 images stand on one side only, such as b"):
        tokenizer.score(open_files(str(tmp_path)), files, ScoreConfig())


def test_grey_levels_of_16_bits_are_not_all_white(tmp_path: Path) -> None:
    """All pixels 10 of 255 apart, as above."""
    for side, value in (("reference", 100), ("reconstruction", 110)):
        (tmp_path / side).mkdir()
        PIL.Image.fromarray(np.full((12, 12), value << 8, dtype=np.uint16)).save(tmp_path / side / "a.png")
    files = open_files(str(tmp_path))
    assert tokenizer.score(files, files, ScoreConfig()).scores.estimates["psnr"].value == pytest.approx(
        28.131, abs=1e-3
    )


@pytest.mark.parametrize("names", [("36/reference/a.png", "72/reference/a.png"), ("one_images.npz", "two_images.npz")])
def test_of_two_files_for_one_image_none_is_left_out_in_silence(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    files = open_files(str(tmp_path))
    with pytest.raises(UserError, match=r"both called a; score them apart|holds 2 files that fit"):
        tokenizer.score(files, files, ScoreConfig())
