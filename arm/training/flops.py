"""FLOPs of a training step, in one place for the trainer's `speed/mfu` and for `arm plan`. Standard library only.

6·P·T + 6·L·d·Σ len² + 6·d·Σ targets·rows: P the parameters of the layers, T the tokens, and the head counted where it is
applied, at targets over the rows of their modality (forward and backward; attention inside documents only; nothing for
recomputed activations).
"""

from collections.abc import Sequence


def step_flops(
    *, num_parameters: int, num_layers: int, width: int, lengths: Sequence[int], head_logits: int = 0
) -> float:
    """FLOPs of a forward and backward pass over packed documents; `head_logits` is Σ targets · rows.

    10 parameters, 1 layer of width 2, lengths (3, 1), 2 targets over 5 rows  ->  6·10·4 + 6·1·2·(9 + 1) + 6·2·10 = 480
    """
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    return 6.0 * num_parameters * tokens + 6.0 * num_layers * width * squares + 6.0 * width * head_logits
