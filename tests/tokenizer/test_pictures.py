"""Sheets of pictures: what stands where."""

from pathlib import Path

import numpy as np
import PIL.Image
import torch

from arm.storage import LocalFolder
from arm.tokenizer.pictures import save_sheet


def test_images_stand_above_what_became_of_them_in_lines_as_high_as_they_need(tmp_path: Path) -> None:
    """36 is the longest side, so pixels are 144 / 36 = 4 wide. A column is 4 · 24 + 4 = 100 wide, the first eight are
    4 · 12 + 4 = 52 high, the ninth 4 · 36 + 4 = 148: 2 · 52 + 10 + 2 · 148 = 410."""
    originals = [torch.full((3, 12, 24), index / 10) for index in range(8)] + [torch.full((3, 36, 20), 0.8)]
    made = [1 - image / 2 for image in originals]
    save_sheet(LocalFolder(tmp_path), "sheet.png", originals, made, apart=10)
    sheet = np.asarray(PIL.Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (410, 800, 3)
    assert sheet[47, 395, 0] == round(255 * 0.3)
    assert sheet[52, 300, 0] == round(255 * (1 - 0.15))
    assert (sheet[[48, 51, 100, 113]] == 255).all()  # between the lines
    assert sheet[114, 0, 0] == sheet[257, 79, 0] == round(255 * 0.8)
    assert sheet[262, 0, 0] == round(255 * 0.6)
    assert (sheet[104:, 80:] == 255).all()
