"""The component of the job download-images."""

from kfp.dsl import Dataset, Input, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def download_images(
    pairs: Input[Dataset],
    output: str,
    config: str,
    resources: str,
    samples: Output[Dataset],
    site: Input[Dataset] = None,
    earlier: str = "",
    attempt: int = 1,
):
    """Download the images of the pairs into shards."""
    from arm.launch import launch

    launch(
        "download-images",
        pairs=pairs.path,
        site=site and site.path,
        earlier=earlier,
        attempt=attempt,
        output=output,
        config=config,
        resources=resources,
    ).save(samples.path)
