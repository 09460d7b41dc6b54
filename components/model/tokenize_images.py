"""The component of the job tokenize-images."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def tokenize_images(
    images: Input[Dataset],
    tokenizer: Input[Model],
    text_tokenizer: Input[Model],
    output: str,
    config: str,
    resources: str,
    tokens: Output[Dataset],
):
    """Turn every curated sample into codes and text."""
    from arm.launch import launch

    launch(
        "tokenize-images",
        images=images.path,
        tokenizer=tokenizer.path,
        text_tokenizer=text_tokenizer.path,
        output=output,
        config=config,
        resources=resources,
    ).save(tokens.path)
