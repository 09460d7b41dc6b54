"""The component of one part of the job tokenize-images: a pod makes every n-th unit, the job itself then sums up."""

from kfp.dsl import Dataset, Input, Model, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def tokenize_part(
    images: Input[Dataset],
    tokenizer: Input[Model],
    text_tokenizer: Input[Model],
    part: str,
    output: str,
    config: str,
    resources: str,
):
    """Turn a part of the samples into codes and text."""
    from arm.launch import launch_part

    launch_part(
        "tokenize-images",
        part,
        images=images.path,
        tokenizer=tokenizer.path,
        text_tokenizer=text_tokenizer.path,
        output=output,
        config=config,
        resources=resources,
    )
