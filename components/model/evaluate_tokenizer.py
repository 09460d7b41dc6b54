"""The component of the job evaluate-tokenizer."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def evaluate_tokenizer(
    tokenizer: Input[Model],
    output: str,
    config: str,
    resources: str,
    tokenizer_evaluation: Output[Dataset],
    images: Input[Dataset] = None,
    evaluation: Input[Dataset] = None,
    encoder: Input[Model] = None,
    detokenizer: Input[Model] = None,
):
    """Score a visual tokenizer on held-out images."""
    from arm.launch import launch

    launch(
        "evaluate-tokenizer",
        tokenizer=tokenizer.path,
        images=images and images.path,
        evaluation=evaluation and evaluation.path,
        encoder=encoder and encoder.path,
        detokenizer=detokenizer and detokenizer.path,
        output=output,
        config=config,
        resources=resources,
    ).save(tokenizer_evaluation.path)
