"""How much of an image looks like lines of text, without weights: strokes are thin, many, side by side and of one contrast.

A pixel row crosses a letter's stroke where the grey value falls and soon rises again (or the other way about). A cell of
8 × 8 pixels with enough such crossings, in a run of at least three cells, is text. Print on a plain ground is found to a
cell; so are fences, bar codes and the like, and handwriting is mostly missed: a bound on it is a coarse one.
"""

import numpy as np
from numpy.typing import NDArray

CELL = 8
CONTRAST = 40.0
"""Grey levels between two neighbours that make an edge; ours."""
MIN_CROSSINGS = 6
"""Edges up followed by edges down within a cell's width, in the eight rows of a cell; ours."""
MIN_RUN = 3
"""Cells side by side."""
NUM_SCALES = 3
"""The image, its half and its quarter: print up to some 40 pixels high."""


def measure_text_area(grey_BHW: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of each image that holds text, 0 to 1: array (B,)."""
    return np.asarray(_text_cells(grey_BHW, NUM_SCALES).mean(axis=(1, 2)), np.float64)


def _text_cells(grey_BHW: NDArray[np.float32], scales: int) -> NDArray[np.bool_]:
    """Cells of text at this scale and, for larger print, at half of it: (B, H / 8, W / 8), at least one cell."""
    batch, height, width = grey_BHW.shape
    rows, columns = max(1, height // CELL), max(1, width // CELL)
    if height < CELL or width < MIN_RUN * CELL:
        return np.zeros((batch, rows, columns), np.bool_)
    whole = grey_BHW[:, : rows * CELL, : columns * CELL]
    steps = np.diff(whole, axis=2, append=whole[:, :, -1:])
    rises, falls = _per_cell(steps > CONTRAST), _per_cell(steps < -CONTRAST)
    found = _in_runs(np.minimum(rises, falls) >= MIN_CROSSINGS)
    if scales > 1:
        half = whole.reshape(batch, rows * CELL // 2, 2, columns * CELL // 2, 2).mean(axis=(2, 4))
        coarse = _text_cells(half, scales - 1)
        down = np.minimum(np.arange(rows) // 2, coarse.shape[1] - 1)
        along = np.minimum(np.arange(columns) // 2, coarse.shape[2] - 1)
        found |= coarse[:, down][:, :, along]
    return found


def _per_cell(mask_BHW: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How often the mask is set in each cell: (B, H / 8, W / 8)."""
    batch, height, width = mask_BHW.shape
    cells = mask_BHW.reshape(batch, height // CELL, CELL, width // CELL, CELL)
    return np.asarray(cells.sum(axis=(2, 4)))


def _in_runs(busy_BRC: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only those with enough neighbours to the left and right."""
    starts = np.lib.stride_tricks.sliding_window_view(busy_BRC, MIN_RUN, axis=2).all(axis=3)
    found = np.zeros_like(busy_BRC)
    for shift in range(MIN_RUN):
        found[:, :, shift : shift + starts.shape[2]] |= starts
    return found
