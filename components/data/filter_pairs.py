"""The component of the job filter-pairs."""

from kfp.dsl import Dataset, Input, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def filter_pairs(
    pairs: Input[Dataset],
    output: str,
    config: str,
    resources: str,
    filtered_pairs: Output[Dataset],
    earlier: str = "",
):
    """Keep the pairs worth downloading."""
    from arm.launch import launch

    launch(
        "filter-pairs",
        pairs=pairs.path,
        earlier=earlier,
        output=output,
        config=config,
        resources=resources,
    ).save(filtered_pairs.path)
