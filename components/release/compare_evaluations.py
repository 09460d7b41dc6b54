"""The component that ends an experiment: several evaluations in one table."""

from typing import List  # noqa: UP035  KFP reads no other spelling of a list of artifacts

from kfp.dsl import Dataset, Input, Markdown, Output, component

from components.images import RELEASE


@component(base_image=RELEASE, install_kfp_package=False)
def compare_evaluations(evaluations: Input[List[Dataset]], mixtures: list, output: str, table: Output[Markdown]):  # noqa: UP006
    """Compare the mixtures' scores in one table."""
    from arm.evaluation.comparison import compare_evaluations

    names = [mixture["label"] for mixture in mixtures]
    compare_evaluations([evaluation.path for evaluation in evaluations], names, output, table.path)
