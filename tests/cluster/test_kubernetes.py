"""The Kubernetes manifest: strictly valid, without privileges or secrets in it, and its command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from refused import exit_code

from catpose.study.ledger import Ledger
from catpose.study.storage import open_engine
from catpose.sweep import main

REPOSITORY = Path(__file__).parents[2]
MANIFEST = REPOSITORY / "sweeps" / "cluster" / "kubernetes.yaml"


def job() -> dict[str, Any]:
    return next(each for each in yaml.safe_load_all(MANIFEST.read_text()) if each["kind"] == "Job")


def container() -> dict[str, Any]:
    (only,) = job()["spec"]["template"]["spec"]["containers"]
    return only


def test_the_manifest_passes_a_strict_validation() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    documents = [*yaml.safe_load_all(MANIFEST.read_text())]
    for document in documents:
        for version in ("1.33", validate.latest_version()):
            validate.validate(document, version, strict=True)
    misspelt = job()
    misspelt["spec"]["backofLimitPerIndex"] = misspelt["spec"].pop("backoffLimitPerIndex")
    with pytest.raises(validate.ValidationError):
        validate.validate(misspelt, validate.latest_version(), strict=True)


def test_every_volume_claim_and_mount_has_its_other_end() -> None:
    pod = job()["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container()["volumeMounts"]} == {*volumes}
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if "emptyDir" not in volume}
    documents = yaml.safe_load_all(MANIFEST.read_text())
    assert claims == {each["metadata"]["name"] for each in documents if each["kind"] == "PersistentVolumeClaim"}
    rule = next(rule for rule in job()["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule)
    assert rule["onExitCodes"]["containerName"] == container()["name"]
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy asks for


def test_the_manifest_and_the_image_agree() -> None:
    """What the pod mounts and who it is, the Dockerfile made."""
    image = (REPOSITORY / "Dockerfile").read_text()
    who = job()["spec"]["template"]["spec"]["securityContext"]
    assert f"USER {who['runAsUser']}:{who['runAsGroup']}" in image
    places = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert {"/catpose/runs", "/catpose/data", "/tmp"} <= places
    assert "WORKDIR /catpose\n" in image
    assert "HOME=/tmp" in image  # the one place for caches where the root can't be written


def test_the_storage_comes_from_a_secret() -> None:
    for variable in container()["env"]:
        assert "value" not in variable
        assert variable["valueFrom"]["secretKeyRef"]["name"]
    assert "CATPOSE_STORAGE" in [variable["name"] for variable in container()["env"]]


@pytest.mark.slow
def test_its_command_runs_a_study(tiny: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as it stands, with the Secret's URL in the environment, on a small study in place of its own."""
    study = tmp_path / "small.yaml"
    settings = "{trainer.max_epochs: 1, wandb.mode: disabled}"
    study.write_text(f"experiment: {tiny}\nsettings: {settings}\nspace:\n  model.lr: [1e-3, 2e-3]\n")
    python, m, module, *words = [*container()["command"], *container()["args"]]
    assert (REPOSITORY / words[words.index("--config") + 1]).is_file()
    words[words.index("--config") + 1] = str(study)
    words[words.index("--data.root") + 1] = str(drawn)
    words[words.index("--data.num_workers") + 1] = "0"
    assert (python, m, module) == ("python", "-m", "catpose.sweep")
    url = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setenv("CATPOSE_STORAGE", url)
    assert exit_code(main, *words, "--out", tmp_path / "out") == 0
    assert [trial.state for trial in Ledger(open_engine(url), "small", 120.0).trials()] == ["complete"] * 2
