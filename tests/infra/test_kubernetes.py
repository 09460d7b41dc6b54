"""The Kubernetes manifests, offline: well-formed, complete, and in agreement with the code that relies on them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from arm import launch_kubernetes
from pipelines import resources

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "infra/kubernetes"
OVERLAYS = sorted((KUBERNETES / "overlays").iterdir())


def build(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What `kubectl kustomize` would collect, without patches applied: (kind, name) -> object."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name in kustomization["resources"]:
        path = (folder / name).resolve()
        if path.is_dir():
            found |= build(path)
        else:
            found |= {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(path.read_text())}
    return found


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.name))
def test_every_file_of_an_overlay_is_listed_and_every_object_is_whole(overlay: Path) -> None:
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    assert kustomization["kind"] == "Kustomization"
    listed = {*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))}
    assert {path.name for path in overlay.iterdir()} - {"kustomization.yaml"} == listed - {"../../base"}
    objects = build(overlay)
    assert len(objects) >= 6
    assert all(item["apiVersion"] and item["metadata"]["name"] for item in objects.values())


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.name))
def test_kubectl_renders_the_overlay(overlay: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    rendered = subprocess.run([kubectl, "kustomize", str(overlay)], capture_output=True, text=True, check=True).stdout
    objects = {(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load_all(rendered)}
    assert objects == set(build(overlay))


def test_patches_change_objects_that_exist() -> None:
    base = build(KUBERNETES / "base")
    for overlay in OVERLAYS:
        for patch in yaml.safe_load((overlay / "kustomization.yaml").read_text()).get("patches", []):
            values = yaml.safe_load((overlay / patch["path"]).read_text())
            target = base[values["kind"], values["metadata"]["name"]]
            assert set(values["data"]) <= set(target["data"])


def test_bindings_name_roles_and_accounts_that_exist() -> None:
    objects = build(KUBERNETES / "base")
    for (kind, _), item in objects.items():
        if kind == "RoleBinding":
            assert ("Role", item["roleRef"]["name"]) in objects
            for subject in item["subjects"]:
                assert subject["name"] == "pipeline-runner" or ("ServiceAccount", subject["name"]) in objects


def test_the_launcher_may_do_what_it_does_to_the_objects_it_makes() -> None:
    rules = build(KUBERNETES / "base")["Role", "arm-launcher"]["rules"]
    allowed = {(rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in rules}
    for group, _, plural in launch_kubernetes.PLACES.values():
        assert {"create", "get", "delete"} <= allowed[group, plural]


def test_the_addresses_are_those_that_tasks_ask_for() -> None:
    addresses = build(KUBERNETES / "base")["ConfigMap", resources.ADDRESSES]
    assert set(addresses["data"]) == set(resources.ADDRESS_KEYS)


def test_each_phase_has_a_container_file_that_copies_what_exists() -> None:
    files = sorted((ROOT / "infra/docker").glob("*.Containerfile"))
    assert [path.name.split(".")[0] for path in files] == ["data", "model", "release"]
    for path in files:
        lines = path.read_text().splitlines()
        assert lines[0].startswith("# ")
        assert sum(line.startswith("FROM ") for line in lines) == 1
        for line in lines:
            if line.startswith("COPY "):
                assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
