"""The data jobs: crawl, filter, download, curation, imports, and what lies on disk after each."""

from arm.preflight.documents import Source, crawled_images, sources_of
from arm.preflight.hardware import (
    CORE_FLOPS,
    CURATED_PER_CORE_SECOND,
    IMAGES_PER_CORE_SECOND,
    LONGEST_SECONDS,
    STARTED_SECONDS,
    cpu_count,
)
from arm.preflight.models import encoder
from arm.preflight.needs import samples_planned
from arm.preflight.outline import Setting, StepPlan, gigabytes, human
from arm.preflight.visual import encode_flops
from arm.recipes import job_of

PAIR_BYTES = 500
"""A pair with address, caption and page (ours)."""
BYTES_PER_PIXEL = 0.3
"""JPEG at quality 95 (ours)."""
SCORED_CODES = 1_024
"""Codes of an image of 512 pixels, as it is scored."""
TOY_WORK = {
    "make-world": "the toy world",
    "train-teachers": "three small stand-ins",
    "import-samples": "the world's data sets",
    "extract-pairs": "the world's crawl",
    "filter-pairs": "the world's pairs",
    "download-images": "the world's site",
    "curate-images": "all of the world's samples",
}
"""Data jobs of the toy world, whose rates are measured."""
IMPORTED_PER_SECOND = 1_000.0
"""Samples that import-samples reads and writes, in one process (ours: some 200 MB)."""


def plan_data(setting: Setting, step: str) -> StepPlan:
    """A job of the data phase on CPUs."""
    plan = setting.start(step)
    job = job_of(step)
    if "make-world" in setting.recipe.configs and job in TOY_WORK:
        plan.work = TOY_WORK[job]
        setting.take_cpu_rate(plan, _toy_samples(setting, step))
        plan.disk = _stored(setting, samples_planned(setting.recipe)) if job == "curate-images" else 0.0
        return plan
    planner = {
        "extract-pairs": _extract, "filter-pairs": _filter, "download-images": _download, "curate-images": _curate,
        "import-samples": _import,
    }.get(job)  # fmt: skip
    plan.seconds = STARTED_SECONDS
    if planner:
        planner(setting, plan)
    else:
        plan.work = "checks and copies a checkpoint" if job == "import-model" else "checks gates and licences"
    return plan


def image_bytes(source: Source, short_side: int | None = None) -> float:
    """Stored bytes of an image of a source, its short side brought down to `short_side`."""
    whole = sum(share for _, _, share in source.facts.sizes)
    found = 0.0
    for height, width, share in source.facts.sizes:
        scale = min(1.0, short_side / min(height, width)) if short_side else 1.0
        found += height * width * scale**2 * share / whole
    return found * BYTES_PER_PIXEL


def _take_cores(setting: Setting, plan: StepPlan, core_seconds: float, workers: int | None = None) -> None:
    """Time of a pod of the recipe, if the work divides among its cores; a job may use fewer workers."""
    there = cpu_count(setting.compute(plan.step).cpu)
    cores = max(min(workers or there, there), 1.0)
    plan.seconds = STARTED_SECONDS + core_seconds / cores
    plan.core_hours = core_seconds / 3_600
    plan.fact("core-hours", human(plan.core_hours), f"on {cores:g} cores")
    if plan.seconds > LONGEST_SECONDS:
        plan.refusals.append(
            f"{plan.step} would take {plan.seconds / 86_400 / 365:,.0f} years on {cores:g} cores; give it less to read, "
            "leave out min_similarity, or name more CPUs."
        )


def _extract(setting: Setting, plan: StepPlan) -> None:
    if (crawl := setting.recipe.crawl) is None:
        plan.work = "a crawl whose size the recipe does not say"
        return
    pairs = crawl.num_files * crawl.pairs_per_file
    plan.work = f"{human(crawl.num_files)} WAT files, {human(pairs)} pairs"
    plan.disk = pairs * PAIR_BYTES
    plan.fact("to read", gigabytes(crawl.num_files * crawl.gigabytes_per_file * 1e9), "compressed, from the crawl")
    _take_cores(setting, plan, crawl.num_files * crawl.seconds_per_file)


def _filter(setting: Setting, plan: StepPlan) -> None:
    if (crawl := setting.recipe.crawl) is None:
        plan.work = "the pairs of the crawl"
        return
    pairs = crawl.num_files * crawl.pairs_per_file
    kept = pairs * crawl.kept_by_filter
    plan.work = f"{human(pairs)} pairs, {human(kept)} kept"
    plan.disk = kept * PAIR_BYTES
    _take_cores(setting, plan, pairs / 7_500)


def _download(setting: Setting, plan: StepPlan) -> None:
    if (crawl := setting.recipe.crawl) is None:
        plan.work = "the pairs that were kept"
        return
    config = setting.recipe.config(plan.step)
    asked = crawl.num_files * crawl.pairs_per_file * crawl.kept_by_filter
    crawled = next(source for source in sources_of(setting.recipe) if source.name == config.source)
    found = asked * crawl.downloaded
    plan.work = f"{human(asked)} addresses, {human(found)} images"
    plan.disk = found * image_bytes(crawled, config.image_size)
    plan.fact(
        "rate", f"{IMAGES_PER_CORE_SECOND:.0f} images/s a core", "published by img2dataset; hosts' limits come first"
    )
    _take_cores(setting, plan, asked / IMAGES_PER_CORE_SECOND)


def _curate(setting: Setting, plan: StepPlan) -> None:
    planned = samples_planned(setting.recipe)
    samples = sum(planned.values())
    images = sum(planned[source.name] * source.facts.images for source in sources_of(setting.recipe))
    plan.work = f"{human(samples)} samples kept"
    plan.disk = _stored(setting, planned)
    read = (crawled_images(setting.recipe) or 0) / (
        setting.recipe.crawl.kept_by_curation if setting.recipe.crawl else 1
    )
    config = setting.recipe.config(plan.step)
    scored = read if any(rule.min_similarity is not None or rule.scores for rule in config.rules) else 0
    scoring = encode_flops(encoder(setting.recipe), SCORED_CODES) / CORE_FLOPS
    if scored:
        plan.fact("scoring", f"{scoring:.1f} s an image and core", "SigLIP2 on CPUs, for min_similarity")
    _take_cores(setting, plan, (images + read) / CURATED_PER_CORE_SECOND + scored * scoring, config.workers)


def _import(setting: Setting, plan: StepPlan) -> None:
    if plan.step != "import-samples-training":
        plan.work = "prompts" if plan.step.endswith("prompts") else "held-out samples"
        return
    names = {item.name for item in setting.recipe.config(plan.step).sources}
    planned = {name: number for name, number in samples_planned(setting.recipe).items() if name in names}
    samples = sum(planned.values())
    plan.work = f"{human(samples)} samples of {len(planned)} data sets"
    plan.disk = _stored(setting, planned)
    for source in sources_of(setting.recipe):
        if source.name in planned:
            size = f"{source.facts.gigabytes:,.0f} GB" if source.facts.gigabytes else "size not stated"
            whose = f"{source.facts.id or 'yours'}, {source.facts.licence}, {size}"
            plan.fact(source.name, human(planned[source.name]), f"{whose}. {source.facts.note}".strip(". "))
    plan.seconds = STARTED_SECONDS + samples / IMPORTED_PER_SECOND
    plan.core_hours = plan.seconds / 3_600
    plan.fact("rate", f"{IMPORTED_PER_SECOND:,.0f} samples/s", "assumed; one process")


def _stored(setting: Setting, planned: dict[str, float]) -> float:
    """Bytes of image shards with texts."""
    return sum(
        planned[source.name] * (source.facts.images * image_bytes(source) + source.facts.text_tokens * 4.5)
        for source in sources_of(setting.recipe)
        if source.name in planned
    )


def _toy_samples(setting: Setting, step: str) -> float:
    """What a data job of the toy world has to do."""
    world, job = setting.recipe.config("make-world"), job_of(step)
    crawled = world.num_images * (1 + world.junk_share)
    imported = sum(
        getattr(world, f"num_{name}") for name in ("captions", "questions", "edits", "documents", "videos", "texts")
    )
    if job == "train-teachers":
        teachers = setting.recipe.config(job)
        parts = (teachers.siglip, teachers.language_model, teachers.autoencoder)
        return float(sum(part.num_steps * part.batch_size for part in parts))
    if job == "import-samples":
        return float(imported if step == "import-samples-training" else 0)
    return float({"make-world": crawled + imported, "curate-images": crawled + imported}.get(job, crawled))
