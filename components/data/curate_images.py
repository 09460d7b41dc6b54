"""The component of the job curate-images."""

from kfp.dsl import Dataset, Input, Model, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def curate_images(
    output: str,
    config: str,
    resources: str,
    images: Output[Dataset],
    crawled: Input[Dataset] = None,
    imported: Input[Dataset] = None,
    scorer: Input[Model] = None,
    evaluation: Input[Dataset] = None,
    earlier: str = "",
):
    """Score images; drop duplicates, the unfit and evaluation images."""
    from arm.launch import launch

    launch(
        "curate-images",
        crawled=crawled and crawled.path,
        imported=imported and imported.path,
        scorer=scorer and scorer.path,
        evaluation=evaluation and evaluation.path,
        earlier=earlier,
        output=output,
        config=config,
        resources=resources,
    ).save(images.path)
