"""Which release holds the alias now: asked of MLflow before `register-model` makes its content key.

The champion is an input like any other: its digest is part of the key, so that the same comparison gives the same bytes,
and a release says what it was held against. The sender looks again before it moves the alias.
"""

from collections.abc import Mapping
from typing import Any

from arm import manifest as manifests
from arm.errors import ArmError, UserError, without_userinfo
from arm.tracking.config import CHAMPION, RegisterConfig

Inputs = Mapping[str, str | None]


def find_champion(config: RegisterConfig, inputs: Inputs, store: str) -> Inputs:
    """Add the release that holds the alias, when a gate names it and nobody gave one; no release, no input."""
    if not any(gate.not_below == CHAMPION for gate in config.gates):
        if inputs.get("champion"):
            raise UserError("A champion is given, but no gate has not_below=champion; add such a gate or leave it out.")
        return inputs
    if inputs.get("champion"):
        return inputs
    versions, holder = registered_versions(config, store)
    version = versions.get(holder)
    if version is not None and _is_this_run(version.tags, inputs):
        before = version.tags.get("arm.champion")
        version = next((found for found in versions.values() if found.tags.get("arm.digest") == before), None)
    if version is None:
        return inputs
    try:
        return {**inputs, "champion": manifests.load(version.source).url}
    except ArmError as error:
        raise UserError(
            f"The release of version {version.version} of {config.name}, to be compared with, cannot be read "
            f"({str(error).rstrip('.')}); give another with --champion."
        ) from None


def registered_versions(config: RegisterConfig, store: str) -> tuple[dict[str, Any], str]:
    """The versions of the registered model by their number, and the number of the one that holds the alias."""
    from arm.tracking.sender import Sender, connect, mlflow_address

    Sender(store).send_all()  # the release before this one may still wait in the spool
    try:
        client = connect(store)
        versions = {str(found.version): found for found in client.search_model_versions(f"name='{config.name}'")}
        aliases = client.get_registered_model(config.name).aliases if versions else {}
    except Exception as error:  # any failure of a server or its client library
        raise UserError(
            f"A gate names the champion, but {without_userinfo(mlflow_address(store))} does not say which it is ({type(error).__name__}); "
            "start it, or give the release with --champion."
        ) from None
    return versions, str(aliases.get(config.alias, ""))


def _is_this_run(tags: Mapping[str, str], inputs: Inputs) -> bool:
    """Whether the alias is held by what these very inputs made before: then the champion is the one before it."""
    parts = [name for name in ("model", "tokenizer", "detokenizer", "evaluation") if inputs.get(name)]
    return all(tags.get(f"arm.{name}") == manifests.load(str(inputs[name])).digest for name in parts)
