"""The component of the job train-policy."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def train_policy(
    model: Input[Model],
    prompts: Input[Dataset],
    tokenizer: Input[Model],
    detokenizer: Input[Model],
    output: str,
    config: str,
    resources: str,
    policy: Output[Model],
):
    """Improve the model with GRPO for one stage."""
    from arm.launch import launch

    launch(
        "train-policy",
        model=model.path,
        prompts=prompts.path,
        tokenizer=tokenizer.path,
        detokenizer=detokenizer.path,
        output=output,
        config=config,
        resources=resources,
    ).save(policy.path)
