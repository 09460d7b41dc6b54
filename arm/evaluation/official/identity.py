"""Who was asked and who judged, for the protocol: what tells two of one name apart. No path, no address, no key.

model            {"kind": "diffusers", "name": "flux", "files": "3f0c…", "steps": 28, "images_a_prompt": 4, …}
judge            mask2former                                       gpt-4.1-2025-04-14
judge_settings   {"kind": "mask2former", "files": "9a01…",         {"kind": "endpoint", "temperature": 0.0,
                  "threshold": 0.3, "clip": "vit-l-14", …}          "rubrics": "wise 1", …}
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arm.device import computing_dtype
from arm.evaluation.detectors.config import DetectorConfig
from arm.evaluation.judge_config import JudgeConfig
from arm.evaluation.models.config import ModelConfig
from arm.evaluation.models.files import files_digest
from arm.evaluation.models.kinds import KINDS
from arm.evaluation.models.model import Model
from arm.evaluation.official.config import OfficialConfig
from arm.evaluation.official.suites import Suite
from arm.evaluation.rubric import load_rubric
from arm.evaluation.subject import Subject, Tools

Record = dict[str, Any]


def model_record(kind: str, model: Model) -> Record:
    """A model, as the protocol beside what it made names it."""
    return {"kind": kind, "name": model.name, **model.protocol()}


def tools_record(subject: Subject) -> Record:
    """The tokenizer with its towers, where no model is asked."""
    files = tools_digests(subject.tools, ("tokenizer", "encoder"))
    return {"kind": "tokenizer", "name": subject.name, "files": files, **subject.config.sizes}


def tools_digests(tools: Tools, names: Sequence[str]) -> dict[str, str]:
    """Tool -> digest of its files; without those that are not there."""
    parts = {"tokenizer": tools.tokenizer_folder, "detokenizer": tools.detokenizer_folder, "encoder": tools.encoder}
    return {name: files_digest(folder) for name in names if (folder := parts[name]) is not None}


def judge_record(suite: Suite, config: OfficialConfig) -> tuple[str, Record]:
    """The name of who looked at the images, and what else fixes the answers; nothing where nobody does."""
    if suite.judged == "objects":
        return _name(config.detector.model), _detector(config.detector)
    if suite.judged == "questions":
        return _name(config.questioner.model), _questioner(config.questioner)
    return (config.judge.model, _judge(config.judge, suite)) if suite.judged else ("", {})


def _detector(config: DetectorConfig) -> Record:
    if not config.model:
        return {}
    clip = {"clip": _name(config.clip), "clip_files": files_digest(Path(config.clip))} if config.clip else {}
    return {
        "kind": config.kind, "files": files_digest(Path(config.model)), "threshold": config.threshold,
        "max_boxes": config.max_boxes, "dtype": computing_dtype(config.dtype), **clip,
    }  # fmt: skip


def _questioner(config: ModelConfig) -> Record:
    """Its settings are those that its kind has a use for; how many are asked at once is none of them."""
    if not config.model:
        return {}
    settings = {name: getattr(config, name) for name in KINDS[config.kind].settings if name != "batch_size"}
    if "dtype" in settings:
        settings["dtype"] = computing_dtype(config.dtype)
    return {"kind": config.kind, **_weights(config), **settings}


def _weights(config: ModelConfig) -> Mapping[str, Any]:
    if config.kind == "openai":
        return {"endpoint_model": config.model}
    if config.kind == "ours":
        from arm.evaluation.models.ours import identity_of

        return identity_of(config.model)
    return {"files": files_digest(Path(config.model))}


def _judge(config: JudgeConfig, suite: Suite) -> Record:
    rubrics = [load_rubric(name) for name in suite.rubrics]
    return {
        "kind": "endpoint", "temperature": config.temperature, "max_tokens": config.max_tokens,
        "rubrics": ", ".join(f"{rubric.name} {rubric.version}" for rubric in rubrics),
    }  # fmt: skip


def _name(path: str) -> str:
    """The last part of a folder, or of a model's name at its endpoint."""
    return path.rstrip("/").rpartition("/")[2]
