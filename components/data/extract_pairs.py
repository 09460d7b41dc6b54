"""The component of the job extract-pairs."""

from kfp.dsl import Dataset, Input, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def extract_pairs(output: str, config: str, resources: str, pairs: Output[Dataset], crawl: Input[Dataset] = None):
    """Extract image-caption pairs from WARC and WAT files."""
    from arm.launch import launch

    launch(
        "extract-pairs",
        crawl=crawl and crawl.path,
        output=output,
        config=config,
        resources=resources,
    ).save(pairs.path)
