"""The component of the job train-model."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def train_model(
    tokens: Input[Dataset],
    base: Input[Model],
    tokenizer: Input[Model],
    output: str,
    config: str,
    resources: str,
    model: Output[Model],
):
    """Train the language model for one supervised stage."""
    from arm.launch import launch

    launch(
        "train-model",
        tokens=tokens.path,
        base=base.path,
        tokenizer=tokenizer.path,
        output=output,
        config=config,
        resources=resources,
    ).save(model.path)
