"""The component of the job train-tokenizer."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def train_tokenizer(
    images: Input[Dataset],
    encoder: Input[Model],
    caption_model: Input[Model],
    output: str,
    config: str,
    resources: str,
    tokenizer: Output[Model],
):
    """Train the visual tokenizer."""
    from arm.launch import launch

    launch(
        "train-tokenizer",
        images=images.path,
        encoder=encoder.path,
        caption_model=caption_model.path,
        output=output,
        config=config,
        resources=resources,
    ).save(tokenizer.path)
