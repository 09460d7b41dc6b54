"""The component of the job import-samples."""

from kfp.dsl import Dataset, Input, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def import_samples(output: str, config: str, resources: str, samples: Output[Dataset], source: Input[Dataset] = None):
    """Bring existing data sets into image shards, from paths or from a source artifact."""
    from arm.launch import launch

    launch(
        "import-samples",
        source=source and source.path,
        output=output,
        config=config,
        resources=resources,
    ).save(samples.path)
