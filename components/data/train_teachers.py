"""The component of the job train-teachers."""

from kfp.dsl import Model, Output, component

from components.images import MODEL


@component(base_image=MODEL, install_kfp_package=False)
def train_teachers(output: str, config: str, resources: str, teachers: Output[Model]):
    """Train small stand-ins for SigLIP2, Qwen2.5 and a VAE."""
    from arm.launch import launch

    launch("train-teachers", output=output, config=config, resources=resources).save(teachers.path)
