"""The component that ends a tokenizer ablation: several tokenizers in one report."""

from typing import List  # noqa: UP035  KFP reads no other spelling of a list of artifacts

from kfp.dsl import Dataset, Input, Markdown, Model, Output, component

from components.images import RELEASE


@component(base_image=RELEASE, install_kfp_package=False)
def compare_tokenizers(
    tokenizers: Input[List[Model]],  # noqa: UP006
    scores: Input[List[Dataset]],  # noqa: UP006
    checked: Input[List[Dataset]],  # noqa: UP006
    output: str,
    table: Output[Markdown],
):
    """Compare the rows' tokenizers in one report."""
    from arm.evaluation.tokenizer_comparison import compare_tokenizers

    compare_tokenizers(
        tokenizers=[tokenizer.path for tokenizer in tokenizers],
        evaluations=[evaluation.path for evaluation in [*scores, *checked]],
        folder=output,
        path=table.path,
    )
