"""Every job of the project in order, and the one machine that runs them.

    run("filter-pairs", output="store/05-filter-pairs", config="{}", inputs={"pairs": "store/04-extract-pairs"})

A job is a plain function: manifests in, files out.

    def filter_pairs(*, pairs: Manifest, output: Folder, config: FilterConfig) -> Outcome

`run` gives it a strict config, works out the content key (job, version, config, input digests), takes a lock, runs the
function under tracking, and writes the manifest last. The output lies at `<output>/<first 16 of the key>/`, and
`<output>/current.json` points to the newest. A complete output with the same key is returned untouched: torch, Spark
and MLflow are imported only after that check. Standard library only.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from arm import config as configs
from arm import manifest as manifests
from arm.data.refusing import refuse, refused_counts
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.outside import outside_digests
from arm.storage import Folder, open_folder
from arm.tracking.spool import store_of

Role = Literal["data", "init", "judge"]


@dataclass(frozen=True, slots=True)
class Input:
    """A manifest that a job reads. `role` says how it counts in lineage: contamination walks data and init."""

    name: str
    role: Role = "data"
    optional: bool = False
    holds_paths: bool = False
    """Whether the paths that the config names lie inside it, when it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job: where its function and config live, what it reads and what it makes."""

    name: str
    phase: Literal["toy", "data", "model", "release"]
    purpose: str
    function: str
    config: str
    inputs: tuple[Input, ...] = ()
    makes: str
    """Kind of the output's manifest."""
    version: int = 1
    """Raised by hand when the same config gives other bytes."""
    stages: tuple[str, ...] = ()
    distributed: bool = False
    """Whether several ranks can run it together; any other job is refused more than one."""
    divisible: bool = False
    """Whether its units can also be made by parts that run apart from each other; the job itself then sums up."""
    finds: str = ""
    """Import string of `(config, inputs, store) -> inputs`: adds an input that nobody gave, before the key is made."""
    keeps_slots: bool = False
    """Whether tombstones stay out of its key, because what they refuse keeps its slots: a run goes on under new ones."""
    output: str = ""
    """Family folder where a command names none, for a job that is also run beside any store; empty: one must be named."""


def _optional(name: str, role: Role = "data", *, holds_paths: bool = False) -> Input:
    return Input(name, role, optional=True, holds_paths=holds_paths)


JOBS: tuple[Job, ...] = (
    Job(
        name="make-world", phase="toy", makes="world",
        purpose="Draw the toy world: a web site and its crawl, data sets to import, prompts and held-out scenes.",
        function="arm.toy.world_job:make_world", config="arm.toy.config:WorldConfig",
    ),
    Job(
        name="train-teachers", phase="toy", makes="teachers", version=4,
        purpose="Train small stand-ins for SigLIP2, Qwen2.5 and a VAE, saved as Hugging Face checkpoints.",
        function="arm.toy.teacher:train_teachers", config="arm.toy.config:TeacherConfig",
    ),
    Job(
        name="import-model", phase="data", makes="weights",
        purpose="Check a Hugging Face checkpoint and bring it into the store with its licence.",
        function="arm.data.model_import:import_model", config="arm.data.config:ImportModelConfig",
        inputs=(_optional("source", "init", holds_paths=True),),
    ),
    Job(
        name="import-samples", phase="data", makes="image-shards", version=3,
        purpose="Bring existing data sets (questions, edits, pages, videos, text) into image shards.",
        function="arm.data.importing:import_samples", config="arm.data.config:ImportSamplesConfig",
        inputs=(_optional("source", holds_paths=True),),
    ),
    Job(
        name="extract-pairs", phase="data", makes="pairs", version=3,
        purpose="Read WARC and WAT files on Spark and extract image-caption pairs.",
        function="arm.data.extraction:extract_pairs", config="arm.data.config:ExtractConfig",
        inputs=(_optional("crawl", holds_paths=True),),
    ),
    Job(
        name="filter-pairs", phase="data", makes="filtered-pairs", version=2,
        purpose="Keep the pairs worth downloading; count the others by reason.",
        function="arm.data.filtering:filter_pairs", config="arm.data.config:FilterConfig",
        inputs=(Input("pairs"), _optional("seen", "judge")),
    ),
    Job(
        name="download-images", phase="data", makes="image-shards", version=4,
        purpose="Download the images with img2dataset behind a guard into webdataset shards.",
        function="arm.data.download:download_images", config="arm.data.config:DownloadConfig",
        inputs=(Input("pairs"), _optional("site"), _optional("retry_failures")),
    ),
    Job(
        name="curate-images", phase="data", makes="curated-shards", version=5,
        purpose="Score images, drop duplicates, the unfit and evaluation images; write curated shards.",
        function="arm.data.curation:curate_images", config="arm.data.config:CurateConfig",
        inputs=(*(_optional(n) for n in ("crawled", "imported", "known")), *(_optional(n, "judge") for n in ("scorer", "evaluation"))),
    ),
    Job(
        name="train-tokenizer", phase="model", makes="tokenizer", version=6, distributed=True,
        purpose="Train the visual tokenizer: frozen SigLIP2, projections, FSQ, four losses.",
        function="arm.tokenizer.training.train:train_tokenizer", config="arm.tokenizer.config:TokenizerConfig",
        inputs=(Input("images"), Input("encoder", "init"), Input("caption_model", "init")),
    ),
    Job(
        name="tokenize-images", phase="model", makes="token-shards", version=4, distributed=True, divisible=True,
        purpose="Turn every curated sample into codes and text: Arrow token shards.",
        function="arm.tokenizer.encoding.encode:tokenize_images", config="arm.tokenizer.config:EncodeConfig",
        inputs=(
            Input("images"), Input("tokenizer", "init"), Input("text_tokenizer", "init"),
            _optional("detokenizer", "judge"),
        ),
    ),
    Job(
        name="train-detokenizer", phase="model", makes="detokenizer", version=4, distributed=True,
        purpose="Train the detokenizer that renders codes as pixels: a flow over the latents of a frozen autoencoder.",
        function="arm.tokenizer.detokenizer.train:train_detokenizer",
        config="arm.tokenizer.config:DetokenizerConfig",
        inputs=(
            Input("images"), Input("tokenizer", "init"), Input("autoencoder", "init"), _optional("backbone", "init"),
        ),
    ),
    Job(
        name="evaluate-tokenizer", phase="model", makes="tokenizer-evaluation", version=3,
        purpose="Score a visual tokenizer: zero-shot, linear probe, code usage, PSNR, SSIM, Fréchet distance.",
        function="arm.tokenizer.evaluation.evaluate:evaluate_tokenizer", config="arm.tokenizer.config:EvaluateTokenizerConfig",
        inputs=(Input("tokenizer"), _optional("images"), *(_optional(n, "judge") for n in ("evaluation", "encoder", "detokenizer"))),
    ),
    Job(
        name="train-model", phase="model", makes="model", stages=("pretrain", "continue", "finetune"), distributed=True,
        version=5, keeps_slots=True,
        purpose="Train the language model on packed token shards under DeepSpeed, one stage a run.",
        function="arm.training.stages:train_model", config="arm.training.config:StageConfig",
        inputs=(Input("tokens"), Input("base", "init"), Input("tokenizer", "init")),
    ),
    Job(
        name="train-policy", phase="model", makes="model", stages=("t2i", "edit", "joint"), distributed=True, version=4,
        purpose="Improve the model with GRPO against rewards, one stage a run.",
        function="arm.rl.training:train_policy", config="arm.rl.config:PolicyConfig",
        inputs=(Input("model", "init"), Input("prompts"), Input("tokenizer", "init"), Input("detokenizer", "judge")),
    ),
    Job(
        name="evaluate-model", phase="release", makes="evaluation", version=7, output="evaluation/evaluate-model",
        purpose="Score every training stage, or a model from elsewhere, on held-out items and on published benchmarks.",
        function="arm.evaluation.evaluate:evaluate_model", config="arm.evaluation.config:EvaluateConfig",
        inputs=(
            _optional("samples"), _optional("tokenizer"), _optional("detokenizer"), _optional("encoder", "judge"),
            _optional("pretrained"), _optional("continued"), _optional("finetuned"),
            _optional("t2i_policy"), _optional("edit_policy"), _optional("joint_policy"),
        ),
    ),
    Job(
        name="register-model", phase="release", makes="release", version=4,
        purpose="Check the gates, gather a self-contained release and register it in MLflow.",
        function="arm.evaluation.champion:register_model", config="arm.tracking.config:RegisterConfig",
        finds="arm.tracking.alias:find_champion",
        inputs=(*(Input(n, "init") for n in ("model", "tokenizer", "detokenizer")), Input("evaluation", "judge"), _optional("champion", "judge")),
    ),
)  # fmt: skip


def find(name: str) -> Job:
    """The job of that name; an unknown name is a UserError with a suggestion."""
    for job in JOBS:
        if job.name == name:
            return job
    raise UserError(f"There is no job {name!r}; {configs.suggest(name, [job.name for job in JOBS])}")


def resolve(reference: str) -> Any:
    """Import `package.module:name`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run made ready: everything that its content key covers, and where its output goes."""

    job: Job
    config: Any
    inputs: dict[str, Manifest]
    digests: dict[str, str]
    key: str
    output: str
    """The family folder, `store/05-filter-pairs`."""

    @property
    def folder(self) -> Folder:
        """Where this run's files lie: `<output>/<first 16 of the key>`."""
        return open_folder(self.output).child(self.key[:16])

    def complete(self) -> Manifest | None:
        """The manifest, if this very run was finished before; where it was deleted, the compacted version of it."""
        if not self.folder.exists(manifests.NAME):
            return manifests.stand_in(self.output, self.key)
        found = manifests.load(self.folder.url)
        return found if found.key == self.key else None


def plan(name: str, *, output: str, config: str | Any = "{}", inputs: Mapping[str, str | None]) -> Plan:
    """Check the config and the inputs of a run and work out its content key; nothing heavy is imported."""
    job = find(name)
    config_type = resolve(job.config)
    ready = configs.from_json(config_type, config) if isinstance(config, str) else config
    if job.finds:
        inputs = resolve(job.finds)(ready, inputs, store_of(output))
    opened, sets = refuse(_open_inputs(job, inputs), store_of(output))
    digests = {role: item.digest for role, item in opened.items()}
    if hasattr(ready, "outside_paths"):
        holders = (opened[item.name] for item in job.inputs if item.holds_paths and item.name in opened)
        digests |= outside_digests(ready.outside_paths(), next(holders, None))
    plans = [_keyed(job, ready, opened, digests | refused, output) for refused in ([{}] if job.keeps_slots else sets)]
    return plans[0] if len(plans) == 1 else next((found for found in plans if found.complete()), plans[0])


def _keyed(job: Job, config: Any, inputs: dict[str, Manifest], digests: dict[str, str], output: str) -> Plan:
    values = json.dumps([job.name, job.version, configs.identity(config), digests], sort_keys=True)
    key = hashlib.sha256(values.encode()).hexdigest()
    return Plan(job=job, config=config, inputs=inputs, digests=digests, key=key, output=output)


def run(
    name: str, *, output: str, config: str | Any = "{}", inputs: Mapping[str, str | None] | None = None
) -> Manifest:
    """Run a job in this process, or return its complete output untouched."""
    ready = plan(name, output=output, config=config, inputs=inputs or {})
    return reuse(ready) or execute(ready)


def reuse(ready: Plan) -> Manifest | None:
    """The complete output of this very run, if there is one; `current.json` is turned to it."""
    found = ready.complete()
    if found:
        from arm.tracking.recording import record_reuse

        manifests.point(ready.output, found)
        record_reuse(ready, found)
    return found


def execute(ready: Plan) -> Manifest:
    """Run the job's function on a plan and publish the manifest last. Every rank computes; rank 0 alone publishes."""
    from arm.storage.disk import disk_errors_in_a_sentence

    with disk_errors_in_a_sentence(ready.folder.url):
        if int(os.environ.get("RANK", "0")) > 0:
            call(ready)
            return _unpublished(ready)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the launcher of the ranks holds the lock
            return _record(ready)
        return _record_alone(ready)


def _record_alone(ready: Plan) -> Manifest:
    from arm.lock import output_lock

    with output_lock(ready.folder, ready.job.name):
        ready.folder.sweep()
        return reuse(ready) or _record(ready)


def _record(ready: Plan) -> Manifest:
    from arm.tracking.recording import record_run

    with record_run(ready) as recording:
        manifest = _describe(ready, call(ready))
        recording.finish(manifest)
        _publish(ready, manifest)
    return manifest


def call(ready: Plan) -> manifests.Outcome:
    """Run the job's function on a plan and nothing around it: no lock, no tracking, no manifest."""
    function: Callable[..., manifests.Outcome] = resolve(ready.job.function)
    return function(**ready.inputs, output=ready.folder, config=ready.config)


def _open_inputs(job: Job, inputs: Mapping[str, str | None]) -> dict[str, Manifest]:
    known = [item.name for item in job.inputs]
    for name in inputs:
        if name not in known:
            raise UserError(f"{job.name} has no input {name!r}; {configs.suggest(name, known)}")
    absent = [item.name for item in job.inputs if not item.optional and not inputs.get(item.name)]
    if absent:
        raise UserError(f"{job.name} needs the input {', '.join(absent)}: the folder of a finished job.")
    return {name: manifests.load(url) for name, url in inputs.items() if url}


def _describe(ready: Plan, outcome: manifests.Outcome) -> Manifest:
    config = configs.identity(ready.config)
    return Manifest(
        kind=ready.job.makes, job=ready.job.name, version=ready.job.version, key=ready.key,
        config=config, inputs=ready.digests, licences=_licences(ready, config, outcome),
        counts={**outcome.counts, **refused_counts(ready.inputs)}, metrics={n: float(v) for n, v in outcome.metrics.items()},
        files=manifests.entries_of(ready.folder), folder=ready.folder,
    )  # fmt: skip


def _licences(ready: Plan, config: dict[str, Any], outcome: manifests.Outcome) -> tuple[str, ...]:
    """The config's own, the data's, and those that the inputs carry: what only judged leaves nothing in the output."""
    read = [ready.inputs.get(item.name) for item in ready.job.inputs if item.role != "judge"]
    carried = (item.licences for item in read if item)
    return tuple(sorted(manifests.licences_in(config).union(outcome.licences, *carried)))


def _unpublished(ready: Plan) -> Manifest:
    """What ranks other than 0 return: they publish nothing."""
    return Manifest(
        kind=ready.job.makes, job=ready.job.name, version=ready.job.version, key=ready.key,
        config={}, inputs=ready.digests, counts={}, metrics={}, files=(), folder=ready.folder,
    )  # fmt: skip


def _publish(ready: Plan, manifest: Manifest) -> None:
    """Write the manifest, which makes the output complete, then point to it and drop the working folders."""
    if not ready.folder.write_if_absent(manifests.NAME, manifest.to_json()):
        other = manifests.load(ready.folder.url)
        if other.digest != manifest.digest:
            raise IntegrityError(
                f"{other.url} was published meanwhile with other bytes; delete that folder and run again."
            )
    manifests.point(ready.output, manifest)
    ready.folder.discard_scratch()
