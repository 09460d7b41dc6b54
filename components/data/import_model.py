"""The component of the job import-model."""

from kfp.dsl import Input, Model, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def import_model(output: str, config: str, resources: str, weights: Output[Model], source: Input[Model] = None):
    """Bring a Hugging Face checkpoint into the store, from a path or from a source artifact."""
    from arm.launch import launch

    launch(
        "import-model",
        source=source and source.path,
        output=output,
        config=config,
        resources=resources,
    ).save(weights.path)
