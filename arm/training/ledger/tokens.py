"""The proof down to the tokens: every step's batch is built again from the token shards, and its digest compared."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from arm import config as configs
from arm.data.refusing import refusing
from arm.errors import IntegrityError, UserError
from arm.manifest import Manifest
from arm.model.documents import TextEncoder
from arm.model.lmm import VisualCodes
from arm.model.vocabulary import Vocabulary
from arm.training.config import StageConfig
from arm.training.ledger.chain import Run, find_input
from arm.training.ledger.identity import MODULUS
from arm.training.loader import Loader
from arm.training.shards import open_later
from arm.training.stages import written_plan


def verify_tokens(run: Run, others: Sequence[Manifest] = ()) -> tuple[int, int]:
    """Build every step again as one rank and compare it with what was fed; returns how many steps agreed, and how many fed
    documents that were taken down since, whose tokens nobody reads any more."""
    steps, withdrawn = run.steps(), 0
    with _loader(run, others) as loader:
        for step, (digest, identity) in enumerate(zip(steps.digest.tolist(), steps.identity.tolist(), strict=True)):
            batches = loader.micro_batches(step)
            if sum(batch.identity for batch in batches) % MODULUS != identity:
                raise IntegrityError(
                    f"{run.label} does not verify: step {step} is planned otherwise beside the ledger."
                )
            if sum(batch.digest for batch in batches) % MODULUS == digest:
                continue
            if loader.is_withdrawn(step):
                withdrawn += 1
            else:
                raise IntegrityError(
                    f"{run.label} does not verify: step {step} fed other tokens than the token shards hold."
                )
    return len(steps.step) - withdrawn, withdrawn


@contextmanager
def _loader(run: Run, others: Sequence[Manifest]) -> Iterator[Loader]:
    """The loader that the run had, for one rank, over the plan that lies beside the ledger."""
    from transformers import AutoTokenizer

    tokens, tokenizer = refusing(_input(run, "tokens", others)), _input(run, "tokenizer", others)
    config: StageConfig = configs.from_json(StageConfig, json.dumps(run.manifest.config))
    codes = VisualCodes.load(tokenizer.local("tokenizer/visual_tokenizer.json").parent)
    model = run.manifest.local_folder("model")
    with closing(open_later(tokens, codes, config.variants)) as shards:
        loader = Loader(
            shards,
            written_plan(shards, config, run.manifest.folder),
            Vocabulary.load(model),
            TextEncoder(AutoTokenizer.from_pretrained(model)),
            rows_per_step=config.rows_per_step,
            rows_per_micro_batch=config.rows_per_micro_batch,
            loss_on=config.loss_on,
            refused=tokens.tombstones,
        )
        with closing(loader):
            yield loader


def _input(run: Run, name: str, others: Sequence[Manifest]) -> Manifest:
    found = find_input(run.manifest, name, others)
    if found is None:
        raise UserError(
            f"The {name} of {run.label} ({run.manifest.inputs.get(name, '')[:12]}) are not found; "
            "give --store with the store that holds them."
        )
    return found
