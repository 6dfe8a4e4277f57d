"""`sortbelt train`: from two folders of photos to a version in the registry, against a fake server."""

import hashlib
import importlib.util
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sortbelt.local import child_env, data_directory, foreground, installed_bundles
from tests.support import fake_api, image_files, waiting

FIGURES = {"count": 40, "other": "lunch@3", "held_out_by_both": True}


@pytest.fixture
def photo_dir(tmp_path):
    """Create two folders of six images: reddish and bluish noise."""
    rng = np.random.default_rng(0)
    for channel, label in ((0, "red"), (2, "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 100, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def fake_training(monkeypatch):
    """Replace the training by one that writes a bundle and a report; return its command lines and what it reports."""
    calls = {"commands": [], "comparison": None, "code": 0}

    def run(command, _environment):
        calls["commands"].append(command)
        options = dict(argument.split("=", 1) for argument in command if argument.startswith("--") and "=" in argument)
        if not calls["code"]:
            write_bundle(options["--out"], options["--name"], options["--version"])
            write(f"{options['--out']}-log/report.json", {"comparison": calls["comparison"], "held_out": {}})
        return calls["code"]

    monkeypatch.setattr(foreground, "run", run)
    return calls


def review(number, data, label, *, verdict="label", model="lunch"):
    """Return a review of an image in the format of the API."""
    row = {
        "id": str(number),
        "result_id": str(number),
        "image_id": str(number),
        "image": f"{number}.png",
        "job_id": "j",
    }
    row |= {"sha256": hashlib.sha256(data).hexdigest(), "model": model, "version": "1", "model_label": "red"}
    return row | {"confidence": 0.5, "verdict": verdict, "label": label, "reviewed_at": "2026-01-31T12:00:00Z"}


def write(path, content):
    """Write a JSON file and its folder."""
    path = data_directory.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_bundle(folder, name, version):
    """Write the files of a bundle, as far as the client reads them; return its manifest."""
    manifest = {"name": name, "version": version, "digest": "0" * 64, "labels": ["blue", "red"], "metrics": {}}
    write(f"{folder}/model.json", manifest)
    for file_name in ("weights.safetensors", "CARD.md", "familiarity.safetensors"):
        data_directory.Path(folder, file_name).write_text("x")
    return manifest


def add_live(server, tmp_path, version="3", labels=("blue", "red")):
    """Add a live version to the server, and its bundle to this machine's model cache."""
    manifest = write_bundle(data_directory.locate() / "models" / "cached", "lunch", version)
    server.models.append({**manifest, "labels": list(labels), "stage": "live"})


def test_two_folders_become_a_live_version(run_cli, server, photo_dir):
    """The real training; all four files are sent."""
    run = run_cli("train", photo_dir, "--name", "lunch", "--promote", "--json")

    assert run.code == 0
    result = json.loads(run.out)
    assert result["model"]["stage"] == "promote"  # as the fake server answers
    assert result["refused"] is None
    assert result["report"]["held_out"]["count"] == 12
    (added,) = server.models
    assert (added["name"], added["version"], added["labels"]) == ("lunch", "1", ["blue", "red"])
    assert added["files"] == ["CARD.md", "familiarity.safetensors", "model.json", "weights.safetensors"]
    assert data_directory.Path(result["bundle"], "CARD.md").is_file()


def test_the_version_is_the_next_number(run_cli, server, photo_dir, tmp_path, fake_training):
    """Whatever stage the others have; a version that is not a number does not count."""
    add_live(server, tmp_path)
    server.models += [{**server.models[0], "version": "12", "stage": "retired"}]
    server.models += [{**server.models[0], "version": "rc", "stage": "candidate"}]

    assert run_cli("train", photo_dir, "--name", "lunch").code == 0

    assert server.models[-1]["version"] == "13"
    assert not [argument for argument in fake_training["commands"][0] if "--compare" in argument]
    assert not [request for request in server.requests if request[1].endswith("/promote")]


@pytest.mark.parametrize("stage", ["live", "retired"])
def test_a_version_that_the_server_has_is_rejected_before_the_training(
    run_cli, server, photo_dir, tmp_path, fake_training, stage
):
    """Its bundle in the data folder would be overwritten, and the new one refused by the server."""
    add_live(server, tmp_path)
    server.models[0]["stage"] = stage

    run = run_cli("train", photo_dir, "--name", "lunch", "--version", "3")

    assert run.code == 2
    assert "The server has lunch@3 already" in run.err
    assert fake_training["commands"] == []


@pytest.mark.parametrize(("accuracy", "is_refused"), [(0.9, True), (0.925, False), (0.95, False)])
def test_a_version_that_is_worse_than_the_live_one_is_refused_with_figures(
    run_cli, server, photo_dir, tmp_path, fake_training, accuracy, is_refused
):
    """It is added all the same, and nothing is promoted."""
    add_live(server, tmp_path)
    fake_training["comparison"] = FIGURES | {"accuracy": accuracy, "other_accuracy": 0.925}

    run = run_cli("train", photo_dir, "--name", "lunch", "--promote")

    assert run.code == is_refused
    assert ("90.0% of 40 photos are right, and 92.5% with lunch@3" in run.err) == is_refused
    assert bool([request for request in server.requests if request[1].endswith("/promote")]) != is_refused
    assert server.models[-1]["version"] == "4"
    assert any(argument.startswith("--compare=") for argument in fake_training["commands"][0])


def test_a_held_out_folder_is_what_is_compared_on(run_cli, server, photo_dir, tmp_path, fake_training):
    """Only for a promotion."""
    add_live(server, tmp_path)
    fake_training["comparison"] = FIGURES | {"accuracy": 0.9, "other_accuracy": 0.8}
    assert run_cli("train", photo_dir, "--name", "lunch", "--held-out", photo_dir).code == 2
    assert run_cli("train", photo_dir, "--name", "lunch", "--promote", "--held-out", photo_dir).code == 0
    assert f"--held-out={photo_dir}" in fake_training["commands"][0]


@pytest.mark.parametrize("labels", [("blue", "red"), ("blue", "green", "red")])
def test_what_cannot_be_compared_is_not_promoted(run_cli, server, photo_dir, tmp_path, fake_training, labels):
    """Other labels, or a live version whose files are on other machines only."""
    add_live(server, tmp_path, labels=labels)
    if len(labels) == 2:
        server.models[0]["digest"] = "f" * 64

    run = run_cli("train", photo_dir, "--name", "lunch", "--promote")

    assert run.code == 1
    assert "cannot be compared with lunch@3" in run.err
    assert "sortbelt models promote" in run.err


@pytest.mark.parametrize(("code", "expected"), [(2, 2), (1, 1), (137, 1), (130, 130), (143, 130)])
def test_a_training_that_fails_adds_nothing(run_cli, server, photo_dir, fake_training, code, expected):
    fake_training["code"] = code

    assert run_cli("train", photo_dir, "--name", "lunch").code == expected

    assert server.models == []


def test_a_server_that_rejects_the_bundle_leaves_it_on_disk(run_cli, server, photo_dir, fake_training, monkeypatch):
    """With the command that adds it later."""
    monkeypatch.setattr(
        "sortbelt.client.sync_client.Client.add_model",
        lambda *_: (_ for _ in ()).throw(fake_api_error()),
    )

    run = run_cli("train", photo_dir, "--name", "lunch")

    assert run.code == 2
    assert "add it with `sortbelt models add`" in run.err


def fake_api_error():
    """Return the error of a key that may not add models."""
    from sortbelt import errors

    return errors.error_for_status(403, {"detail": "This key is not an admin's."})


def test_a_missing_library_or_server_is_reported_before_the_training(run_cli, photo_dir, fake_training, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
    )

    run = run_cli("train", photo_dir, "--name", "lunch")

    assert run.code == 2
    assert "Training needs torch" in run.err
    assert "make setup" in run.err
    monkeypatch.undo()
    monkeypatch.setenv("SORTBELT_KEY", fake_api.KEY)
    assert run_cli("train", photo_dir, "--name", "lunch", "--url", "http://127.0.0.1:9").code == 3
    assert fake_training["commands"] == []


def test_reviews_outweigh_the_folders_and_join_the_training(run_cli, server, photo_dir):
    """The real training: corrected, confirmed and left out by their bytes; others are fetched; the folder stays."""
    red, other_red, blue = (photo_dir / name for name in ("red/0.png", "red/1.png", "blue/0.png"))
    new = server.image_bytes["9"] = image_files.make("PNG", (40, 40), (200, 20, 20))
    server.models.append({"name": "other", "version": "1", "stage": "live", "labels": ["cat", "dog"]})
    server.reviews[:] = [
        review(1, blue.read_bytes(), "red"),
        review(2, blue.read_bytes(), "blue"),
        review(3, red.read_bytes(), "red"),
        review(4, other_red.read_bytes(), None, verdict="bad_image"),
        review(5, (photo_dir / "red" / "2.png").read_bytes(), None, verdict="none_of_these", model="other"),
        review(9, new, "red"),
        review(10, b"of another model", "cat"),
        review(11, b"deleted meanwhile", "red"),
    ]

    run = run_cli("train", photo_dir, "--name", "lunch", "--with-reviews", "--promote-if-better", "--json")

    assert run.code == 0
    counts = "1 corrected, 1 confirmed, 1 left out, 2 other labels, 1 added, 1 gone"
    assert f"Reviews: {counts}." in run.err
    manifest = json.loads(data_directory.Path(json.loads(run.out)["bundle"], "model.json").read_text())
    assert manifest["data"]["images"] == {"blue": 5, "red": 7}
    assert manifest["data"]["relabelled"] == 1
    assert len(list((photo_dir / "red").iterdir())) == 6


def test_only_a_bundle_with_the_same_weights_is_found(data_folder):
    """In the model cache of the data folder; damaged manifests are skipped."""
    manifest = write_bundle(data_folder / "models" / "b", "lunch", "1")
    write(data_folder / "models" / "a" / "model.json", ["not a manifest"])
    identity = (manifest["name"], manifest["version"], manifest["digest"])

    assert installed_bundles.find(data_folder, *identity) == data_folder / "models" / "b"
    assert installed_bundles.find(data_folder, "lunch", "1", "1" * 64) is None


def test_ctrl_c_ends_the_child_too(tmp_path):
    """Whether the terminal or only this process gets the signal."""
    code = (
        "import sys; from sortbelt.local import foreground; foreground.INTERRUPT_GRACE_SECONDS = 0.2\n"
        "try: foreground.run([sys.executable, '-c', \"import time, pathlib, os\\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\\ntime.sleep(600)\"], {})\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    environment = child_env.child_environment(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    waiting.wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())

    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert not data_directory.Path("/proc", (tmp_path / "pid").read_text()).exists()
