"""The component of the job train-detokenizer."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def train_detokenizer(
    images: Input[Dataset],
    tokenizer: Input[Model],
    autoencoder: Input[Model],
    output: str,
    config: str,
    resources: str,
    detokenizer: Output[Model],
    backbone: Input[Model] = None,
):
    """Train the detokenizer that renders codes as pixels."""
    from arm.launch import launch

    launch(
        "train-detokenizer",
        images=images.path,
        tokenizer=tokenizer.path,
        autoencoder=autoencoder.path,
        backbone=backbone and backbone.path,
        output=output,
        config=config,
        resources=resources,
    ).save(detokenizer.path)
