"""The held-out evaluation set, read from image shards that `import-samples` wrote.

    text_to_image   [caption]                                   meta {"category", "include": [...]}
    question        [image, question, answer, question, ...]    meta {"kinds": ["existence", ...]}
    edit            [source, instruction, target]               meta {"operation", "target": {...}}
    caption         [image, caption]                            meta {"category", "include": [...]}

The set is fixed: samples are taken in order of their uid, so every stage and every run sees the same ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from arm.data.images import decode_image
from arm.data.shards import read_samples
from arm.errors import UserError
from arm.evaluation.config import EvaluateConfig
from arm.evaluation.items import Item
from arm.manifest import Manifest
from arm.records import Image, Sample, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """What is asked of every model, and the images that the tools are checked on."""

    prompts: tuple[Item, ...]
    """Text-to-image prompts by category."""
    questions: tuple[Item, ...]
    """Questions about images by kind, with their answers."""
    edits: tuple[Item, ...]
    """Source images with instructions by operation."""
    images: tuple[Item, ...]
    """Real images (`source`) with their captions."""
    digest: str
    """Digest of the artifact that they come from."""

    def require(self, name: str) -> list[Item]:
        """The items of one field; a UserError when the set has none."""
        items: tuple[Item, ...] = getattr(self, name)
        if not items:
            raise UserError(f"The evaluation set holds no {name}; leave out the benchmarks that need them.")
        return list(items)


def read_evaluation_set(samples: Manifest, config: EvaluateConfig) -> EvaluationSet:
    """Read the samples of an image-shards artifact and take what the config asks for."""
    by_task: dict[str, list[Sample]] = {}
    for sample in read_samples(samples):
        by_task.setdefault(sample.task, []).append(sample)
    ordered = {task: sorted(found, key=lambda sample: sample.uid) for task, found in by_task.items()}
    prompts = [_prompt(sample) for sample in ordered.get("text_to_image", ())]
    questions = [item for sample in ordered.get("question", ()) for item in _questions(sample)]
    edits = [_edit(sample) for sample in ordered.get("edit", ())]
    images = [_caption(sample) for sample in ordered.get("caption", ())[: config.max_images]]
    return EvaluationSet(
        prompts=tuple(first_of_each_group(prompts, config.prompts_per_category)),
        questions=tuple(spread_over_groups(questions, config.max_questions)),
        edits=tuple(spread_over_groups(edits, config.max_edits)),
        images=tuple(images),
        digest=samples.digest,
    )


def first_of_each_group(items: Iterable[Item], count: int) -> list[Item]:
    """The first `count` items of every group, groups in alphabetical order."""
    return [item for group in _grouped(items) for item in group[:count]]


def spread_over_groups(items: Iterable[Item], count: int) -> list[Item]:
    """`count` items taken from the groups in turn, so that each group has the same number while it lasts.

    groups a: a1 a2 a3   b: b1   count 3  ->  a1 b1 a2
    """
    groups = _grouped(items)
    longest = max(map(len, groups), default=0)
    turns = [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
    return turns[:count]


def _grouped(items: Iterable[Item]) -> list[list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return [groups[name] for name in sorted(groups)]


def _prompt(sample: Sample) -> Item:
    return Item(uid=sample.uid, group=_group(sample, "category"), prompt=_texts(sample)[0].text, meta=sample.meta)


def _caption(sample: Sample) -> Item:
    return replace(_prompt(sample), source=decode_image(_images(sample)[0]))


def _edit(sample: Sample) -> Item:
    source = decode_image(_images(sample)[0])
    instruction = _texts(sample)[0].text
    return Item(uid=sample.uid, group=_group(sample, "operation"), prompt=instruction, source=source, meta=sample.meta)


def _questions(sample: Sample) -> list[Item]:
    """One item for each question about the image, its uid numbered from 0."""
    source = decode_image(_images(sample)[0])
    texts = _texts(sample)
    asked = [text.text for text in texts if text.role == "question"]
    answers = [text.text for text in texts if text.role == "answer"]
    kinds = sample.meta.get("kinds") or ["all"] * len(asked)
    if not len(asked) == len(answers) == len(kinds):
        raise UserError(f"The question sample {sample.uid} has {len(asked)} questions, {len(answers)} answers "
                        f"and {len(kinds)} kinds; they must be as many.")  # fmt: skip
    return [
        Item(uid=f"{sample.uid}-{index}", group=kind, prompt=question, source=source, reference=answer)
        for index, (question, answer, kind) in enumerate(zip(asked, answers, kinds, strict=True))
    ]


def _group(sample: Sample, name: str) -> str:
    return str(sample.meta.get(name, "all"))


def _texts(sample: Sample) -> list[Text]:
    found = [part for part in sample.parts if isinstance(part, Text)]
    if not found:
        raise UserError(f"The evaluation sample {sample.uid} ({sample.task}) has no text.")
    return found


def _images(sample: Sample) -> list[Image]:
    found = [part for part in sample.parts if isinstance(part, Image)]
    if not found:
        raise UserError(f"The evaluation sample {sample.uid} ({sample.task}) has no image.")
    return found
