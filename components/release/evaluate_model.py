"""The component of the job evaluate-model."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import RELEASE


@component(base_image=RELEASE, install_kfp_package=False)
def evaluate_model(
    samples: Input[Dataset],
    tokenizer: Input[Model],
    detokenizer: Input[Model],
    encoder: Input[Model],
    output: str,
    config: str,
    resources: str,
    evaluation: Output[Dataset],
    pretrained: Input[Model] = None,
    continued: Input[Model] = None,
    finetuned: Input[Model] = None,
    t2i_policy: Input[Model] = None,
    edit_policy: Input[Model] = None,
    joint_policy: Input[Model] = None,
):
    """Score every training stage and write the report."""
    from arm.launch import launch

    launch(
        "evaluate-model",
        samples=samples.path,
        tokenizer=tokenizer.path,
        detokenizer=detokenizer.path,
        encoder=encoder.path,
        pretrained=pretrained and pretrained.path,
        continued=continued and continued.path,
        finetuned=finetuned and finetuned.path,
        t2i_policy=t2i_policy and t2i_policy.path,
        edit_policy=edit_policy and edit_policy.path,
        joint_policy=joint_policy and joint_policy.path,
        output=output,
        config=config,
        resources=resources,
    ).save(evaluation.path)
