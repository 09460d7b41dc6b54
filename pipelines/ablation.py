"""Table 7: the tokenizer with some of its losses and with all four, each from several seeds, in one report.

               ┌── tokenizer ── detokenizer ── evaluate ──┐      caption + pixel, seed 0
    images ────┼── …                                      ├── report
               └── tokenizer ── detokenizer ── evaluate ──┘      all four losses, seed 2

It needs the captioned images alone: no crawl, no curation. What a store already holds is taken as it is. Artifacts of
one kind lie in one folder under their content keys: KFP's local runner cannot put a loop's item into a string.
"""

from kfp import dsl

from components.data.import_model import import_model
from components.data.import_samples import import_samples
from components.data.make_world import make_world
from components.data.train_teachers import train_teachers
from components.model.evaluate_tokenizer import evaluate_tokenizer
from components.model.train_detokenizer import train_detokenizer
from components.model.train_tokenizer import train_tokenizer
from components.release.compare_tokenizers import compare_tokenizers
from components.release.evaluate_model import evaluate_model
from pipelines.step import Step


def tokenizer_ablation(step: Step) -> None:
    """Train the rows of Table 7 from several seeds and compare them in one report."""
    toy = step.runs("make-world")
    world = step("make-world", make_world) if toy else None
    teachers = step("train-teachers", train_teachers) if toy else None
    encoder = step("import-model-encoder", import_model, source=teachers)
    language_model = step("import-model-language-model", import_model, source=teachers)
    autoencoder = step("import-model-autoencoder", import_model, source=teachers)
    images = step("import-samples-training", import_samples, source=world)
    held_out = step("import-samples-evaluation", import_samples, source=world)
    with dsl.ParallelFor(step.setting("ablation"), parallelism=step.parallelism) as run:
        tokenizer = step.variant(
            "train-tokenizer", train_tokenizer, folder="ablation-train-tokenizer", config=run.tokenizer,
            images=images, encoder=encoder, caption_model=language_model,
        )  # fmt: skip
        detokenizer = step.variant(
            "train-detokenizer", train_detokenizer, folder="ablation-train-detokenizer", config=run.detokenizer,
            images=images, tokenizer=tokenizer, autoencoder=autoencoder,
        )  # fmt: skip
        scores = step.variant(
            "evaluate-tokenizer", evaluate_tokenizer, folder="ablation-evaluate-tokenizer",
            config=run.evaluate_tokenizer, tokenizer=tokenizer, images=images, evaluation=held_out, encoder=encoder,
            detokenizer=detokenizer,
        )  # fmt: skip
        checked = step.variant(
            "evaluate-model", evaluate_model, folder="ablation-evaluate-model", config=run.evaluate_model,
            samples=held_out, tokenizer=tokenizer, detokenizer=detokenizer, encoder=encoder,
        )  # fmt: skip
    report = compare_tokenizers(
        tokenizers=dsl.Collected(tokenizer), scores=dsl.Collected(scores), checked=dsl.Collected(checked),
        output=f"{step.store}/ablation",
    )  # fmt: skip
    step.place(report, "register-model")
