"""An ensemble of detectors from MLflow's runs to answers: registered, described, asked by files and over HTTP."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from imports import ROOT
from model_server import running
from PIL import Image
from processes import free_port
from runs import composed, configure_stored
from small_scenes import CLASSES, NUM_VAL, SIDE, track_detector, write_store

from pipeline.atomic import read_json
from pipeline.cli import main
from pipeline.config import Config
from pipeline.data.boxes import SIDES, Detections
from pipeline.data.store import Store
from pipeline.detection.joint import JointDetector
from pipeline.learn.input.scenes import detections
from pipeline.predict import load_net
from pipeline.run.weights import BEST
from pipeline.stages.detection import ensemble
from pipeline.stages.detection.serve import detector
from pipeline.tracking import models
from pipeline.tracking.location import Location, client, locate
from pipeline.workspace import Workspace

NAME = "resnet-ensemble-digit_scenes"
MOST_IMAGES = 8


class World(NamedTuple):
    root: Path  # of a repository
    store: Store
    location: Location
    config: Config
    expected: list[Detections]  # of the two members together, in each test image

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root, "digit_scenes")

    @property
    def images(self) -> np.ndarray:
        return np.array(self.store.test().images)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> World:
    """A repository with three detectors, of which the ensemble of the best two is registered."""
    root = tmp_path_factory.mktemp("detectors")
    shutil.copytree(ROOT / "conf", root / "conf")
    values = {"image_size": SIDE, "num_test": 0, "num_val": NUM_VAL}
    configure_stored(root, "digit_scenes", source="folder", path="scenes", **values)
    shutil.copy(ROOT / "params.yaml", root)
    (root / "mlruns").mkdir()
    shutil.copy(mlflow_database, root / "mlruns" / "mlflow.db")
    store, location = write_store(root / "data/store/digit_scenes", "digit_scenes"), locate("", root / "mlruns")
    nets = [
        track_detector(root / "runs", store, location, seed, error) for seed, error in ((1, 0.4), (2, 0.5), (3, 0.6))
    ]
    keys = ("data=digit_scenes", "ensemble.selection=top_k", "ensemble.size=2", "trainer.accelerator=cpu")
    config = composed(root, *keys)
    ensemble.run(config, Workspace(root, "digit_scenes"))
    joint = JointDetector([load_net(root / "runs" / net.key / BEST).net for net in nets[:2]])  # type: ignore[misc]
    return World(root, store, location, config, [alone(joint, image) for image in store.test().images])  # type: ignore[union-attr]


def alone(joint: JointDetector, image: np.ndarray) -> Detections:
    """What the detectors find in a (H, W, 1) image of `small_scenes`, whose normalisation is `half`."""
    normalised = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - 0.5) / 0.5
    return detections(joint([[normalised]] * 2), [normalised], [(SIDE, SIDE)])[0]


def registered(world: World) -> dict[str, Any]:
    return read_json(world.workspace.ensemble / "members.json")["registered"]


def test_the_ensemble_is_registered_with_its_card(world: World) -> None:
    version = client(world.location).get_model_version_by_alias(NAME, "champion")
    assert registered(world) == {"name": NAME, "version": int(version.version), "run_id": version.run_id}
    assert version.description == (world.workspace.ensemble / "card.md").read_text()
    assert version.description.startswith("# Detectors of digit_scenes")


def test_the_same_members_keep_their_version_and_others_get_one(world: World) -> None:
    first = registered(world)
    ensemble.run(world.config, world.workspace)
    assert registered(world) == first
    config = composed(world.root, "data=digit_scenes", "ensemble.size=1", "trainer.accelerator=cpu")
    ensemble.run(config, world.workspace)
    assert registered(world)["version"] == first["version"] + 1
    ensemble.run(world.config, world.workspace)
    assert registered(world) == first and models.load(world.location, NAME)[1] == first["version"]


def assert_finds(rows: list[dict[str, Any]], expected: list[Detections]) -> None:
    """Rows as the server answers them."""
    assert len(rows) == sum(len(each.labels) for each in expected) > 0
    for index, each in enumerate(expected):
        ours = [row for row in rows if row["image"] == index]
        assert [row["class"] for row in ours] == [CLASSES[label] for label in each.labels]
        assert [row["score"] for row in ours] == pytest.approx(each.scores.tolist(), abs=1e-4)
        corners = [[row[side] for side in SIDES] for row in ours]
        np.testing.assert_allclose(np.reshape(corners, (-1, 4)), each.corners, atol=1e-2)


def test_files_are_answered_by_the_registered_ensemble(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(world.root)
    for at, image in enumerate(world.images):
        Image.fromarray(image[..., 0]).save(f"{at}.png")
    capsys.readouterr()
    keys = ["data=digit_scenes", "predict.output=json", "predict.score=0", "trainer.accelerator=cpu"]
    assert main(["predict", "0.png", "1.png", *keys]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer, expected in zip(answers, world.expected[:2], strict=True):
        assert [each["class"] for each in answer["objects"]] == [CLASSES[label] for label in expected.labels]
        assert [each["score"] for each in answer["objects"]] == pytest.approx(expected.scores.tolist(), abs=1e-4)


@pytest.fixture
def port(world: World) -> Iterator[int]:
    model, _ = models.load(world.location, NAME)
    with running(detector(model), NAME, max_images=MOST_IMAGES) as number:
        yield number


def ask(port: int, request: Any = None) -> tuple[int, Any]:
    """Status and answer of a request to the server, or of GET /."""
    url = f"http://127.0.0.1:{port}/{'' if request is None else 'invocations'}"
    body = None if request is None else json.dumps(request).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def png(image: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_the_server_answers_objects_and_refuses_other_requests_in_one_sentence(world: World, port: int) -> None:
    images = world.images
    for inputs in (images.tolist(), [png(image) for image in images]):
        status, answer = ask(port, {"inputs": inputs})
        assert status == 200 and [*answer["predictions"][0]] == ["image", "class", "score", *SIDES]
        assert_finds(answer["predictions"], world.expected)
    status, answer = ask(port, {"inputs": (images / 255).tolist(), "params": {"pixels": "unit"}})
    assert status == 200 and len(answer["predictions"]) == sum(len(each.labels) for each in world.expected)
    status, contract = ask(port)
    assert (status, contract["classes"], contract["channels"]) == (200, list(CLASSES), 1)
    one = images[:1].tolist()
    wide = png(np.zeros((8000, 8001, 1), np.uint8))
    for request, sentence in (
        ({"inputs": one * (MOST_IMAGES + 1)}, f"send at most {MOST_IMAGES} at once"),
        ({"inputs": []}, "no images; send a list of one or more, each rows x columns x 1"),
        ({"inputs": [7]}, "image 0 is neither pixels nor a text"),
        ({"inputs": [*one, [[]]]}, "image 1 is neither pixels nor a text"),
        ({"inputs": [[[[0]], [[0], [1]]]]}, "a list of 2 where axis 2"),
        ({"inputs": (images[:1] / 255).tolist()}, "as a pixel; send integers"),
        ({"inputs": ["0"]}, "holds no whole PNG or JPEG"),
        ({"inputs": [wide]}, "8001 x 8000 pixels; detectors take at most 64 million"),
        ({"inputs": one, "params": {"pixels": "float"}}, 'choose "uint8" or "unit"'),
    ):
        status, refused = ask(port, request)
        assert status == 400 and sentence in refused["message"] and "\n" not in refused["message"], refused


def test_the_command_of_the_docs_finds_the_objects_in_a_file(world: World, port: int, tmp_path: Path) -> None:
    page = (ROOT / "docs/serving.md").read_text()
    (command,) = re.findall(r"^    (\(printf .*\\\n.*)$", page, re.MULTILINE)
    large = Image.fromarray(world.images[0][..., 0]).resize((4 * SIDE, 3 * SIDE))
    large.save(tmp_path / "photo.jpg")
    command = command.replace("127.0.0.1:5001", f"127.0.0.1:{port}")
    done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["predictions"]
    assert rows and {row["image"] for row in rows} == {0}
    assert SIDE < max(row["right"] for row in rows) <= 4 * SIDE


def test_the_verb_serves_detectors(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(world.root)
    asked = []
    monkeypatch.setattr(
        "uvicorn.Server.run", lambda web, sockets: asked.append((web, [each.close() for each in sockets]))
    )
    assert main(["serve", "data=digit_scenes", f"serve.port={free_port()}"]) == 0
    assert asked and f"{NAME} version 1 at http://127.0.0.1:" in capsys.readouterr().out
