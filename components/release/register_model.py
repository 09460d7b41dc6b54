"""The component of the job register-model."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import RELEASE


@component(base_image=RELEASE, install_kfp_package=False)
def register_model(
    model: Input[Model],
    tokenizer: Input[Model],
    detokenizer: Input[Model],
    evaluation: Input[Dataset],
    output: str,
    config: str,
    resources: str,
    release: Output[Model],
):
    """Check the gates, gather the release and register it."""
    from arm.launch import launch

    launch(
        "register-model",
        model=model.path,
        tokenizer=tokenizer.path,
        detokenizer=detokenizer.path,
        evaluation=evaluation.path,
        output=output,
        config=config,
        resources=resources,
    ).save(release.path)
