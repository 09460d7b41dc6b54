"""How many samples every source is planned with: those it has, or those that the stages want of it."""

from arm.preflight.documents import kinds_of, sources_of
from arm.preflight.models import encoder
from arm.recipes import Recipe

STAGES = ("train-model-pretrain", "train-model-continue", "train-model-finetune")


def samples_planned(recipe: Recipe) -> dict[str, float]:
    """Source -> samples; a source that does not say its size gives what the stage that reads most lacks, once each.

    text_to_image wants 2.1B documents, the crawl has 1.3B  ->  captions 0.8B
    """
    sources = sources_of(recipe)
    planned = {source.name: float(source.facts.num_samples or 0) for source in sources}
    for task, wanted in _wanted(recipe).items():
        own = [source for source in sources if source.task == task]
        open_ended = [source.name for source in own if source.facts.num_samples is None]
        lacking = wanted - sum(planned[source.name] for source in own)
        for name in open_ended:
            planned[name] = max(lacking, 0.0) / len(open_ended)
    return planned


def _wanted(recipe: Recipe) -> dict[str, float]:
    """Task -> documents of the stage that reads most of them; a captioned image counts for the kind that draws it."""
    most: dict[str, float] = {}
    patch = encoder(recipe).patch
    for step in STAGES:
        config = recipe.config(step)
        tokens = config.steps * config.rows_per_step * config.sequence_length
        for kind in kinds_of(recipe, config, patch):
            if kind.lengths:
                most[kind.name] = max(most.get(kind.name, 0.0), kind.share * tokens / kind.mean)
    return most
