"""The component of the job make-world."""

from kfp.dsl import Dataset, Output, component

from components.images import DATA


@component(base_image=DATA, install_kfp_package=False)
def make_world(output: str, config: str, resources: str, world: Output[Dataset]):
    """Draw the toy world: its web site and crawl, data sets to import, prompts and held-out scenes."""
    from arm.launch import launch

    launch("make-world", output=output, config=config, resources=resources).save(world.path)
