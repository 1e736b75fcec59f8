from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Phi3ForSequenceClassification

from phi3tune.chat import Renderer
from phi3tune.engines import open_engine
from phi3tune.engines.base import Request, Sampling, chat_request, collect
from phi3tune.engines.classifier import Classifier, Prompts, open_classifier
from phi3tune.engines.folders import labels_of
from phi3tune.engines.models import resolve
from phi3tune.engines.pool import Pool
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from tests.fake_classifiers import LABELS, classifier_adapter, whole_classifier

TEXTS = ["Snow on the hills.", "Sun", "A mild wind from the south, they say, and rain after that. " * 4, "Fog"]


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_classifier(tmp_path_factory.mktemp("whole") / "classifier", tiny_model)


@pytest.fixture(scope="module")
def classifier(whole: Path) -> Classifier:
    return open_classifier(resolve(str(whole), Workspace(whole)), threads=1)


def alone(model: torch.nn.Module, folder: Path, text: str) -> np.ndarray:
    """Logits of one text, by transformers' own forward on the prompt without padding."""
    ids = Renderer.load(folder).prompt([{"role": "user", "content": text}])
    with torch.no_grad():
        return np.asarray(model(input_ids=torch.tensor([ids])).logits[0].float().numpy())


def test_probabilities_are_those_of_transformers(whole: Path, classifier: Classifier) -> None:
    model = Phi3ForSequenceClassification.from_pretrained(whole, dtype=torch.float32).eval()
    found = classifier.classify(TEXTS)
    for text, each in zip(TEXTS, found, strict=True):
        shares = torch.tensor(alone(model, whole, text)).softmax(-1).tolist()
        assert each["scores"] == pytest.approx(dict(zip(LABELS, shares, strict=True)), abs=1e-6)
        assert each["label"] == max(each["scores"], key=lambda label: each["scores"][label])
        assert each["score"] == max(each["scores"].values())
        assert list(each["scores"].values()) == sorted(each["scores"].values(), reverse=True)
        assert not each["truncated"]
    assert len({each["label"] for each in found}) > 1


def test_an_adapter_carries_its_head(tiny_model: Path, tmp_path: Path, workspace: Workspace) -> None:
    model = classifier_adapter(tmp_path / "adapter", tiny_model)
    ref = resolve(str(tmp_path / "adapter"), workspace)
    assert (ref.task, ref.kind, ref.base) == ("classification", "torch", tiny_model)
    found = open_classifier(ref, threads=1).logits_of(
        [Renderer.load(tiny_model).prompt([{"role": "user", "content": text}]) for text in TEXTS]
    )
    expected = np.stack([alone(model, tiny_model, text) for text in TEXTS])
    assert np.abs(found - expected).max() < 1e-5


def test_a_text_over_the_context_keeps_the_tokens_that_the_head_looks_at(
    tiny_model: Path, classifier: Classifier
) -> None:
    renderer = Renderer.load(tiny_model)
    long = "word " * 2000
    (ids, cut), (short, whole) = Prompts(renderer, 64).ids(
        [[{"role": "user", "content": text}] for text in (long, "word")]
    )
    full = renderer.prompt([{"role": "user", "content": long}])
    ending = renderer.prompt([{"role": "user", "content": "word"}])[2:]
    assert cut and len(ids) == 64 and ids[: 64 - len(ending)] == full[: 64 - len(ending)]
    assert ids[-len(ending) :] == ending
    assert not whole and short == renderer.prompt([{"role": "user", "content": "word"}])
    found = classifier.classify([long, "word"])
    assert [each["truncated"] for each in found] == [True, False]


def test_longrope_rows_do_not_change_with_their_neighbours(
    longrope_model: Path, tmp_path: Path, workspace: Workspace
) -> None:
    folder = whole_classifier(tmp_path / "classifier", longrope_model)
    classifier = open_classifier(resolve(str(folder), workspace), threads=1)
    together = classifier.classify(TEXTS)
    apart = [classifier.classify([text])[0] for text in TEXTS]
    for one, other in zip(together, apart, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-6)


def test_it_is_an_engine_that_answers_with_its_label(whole: Path, classifier: Classifier) -> None:
    engine = open_engine(resolve(str(whole), Workspace(whole)), threads=1)
    assert engine.info.can == {"classify", "messages"} and engine.info.vocab_size == 3
    request = chat_request(engine, [{"role": "user", "content": TEXTS[0]}], Sampling())
    label = classifier.classify(TEXTS[:1])[0]["label"]
    assert [each.text for each in engine.generate([request])] == [label]
    assert collect(engine.stream(request)).text == label
    engine.close()


def test_what_is_refused(
    tiny_model: Path, whole: Path, classifier: Classifier, tmp_path: Path, workspace: Workspace
) -> None:
    with pytest.raises(UserError, match="answers chats and chooses no labels"):
        open_classifier(resolve(str(tiny_model), workspace))
    with pytest.raises(UserError, match="end with the user's turn"):
        classifier.classify([[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]])
    with pytest.raises(UserError, match="end with the user's turn"):
        classifier.generate([Request(())])
    with pytest.raises(UserError, match="not of text"):
        classifier.score([1, 2])
    nameless = shutil.copytree(whole, tmp_path / "nameless")
    config = json.loads((nameless / "config.json").read_text())
    (nameless / "config.json").write_text(json.dumps({**config, "id2label": None}))
    with pytest.raises(UserError, match="does not name the labels"):
        resolve(str(nameless), workspace)
    classifier_adapter(tmp_path / "adapter", tiny_model)
    (tmp_path / "adapter" / "labels.json").unlink()
    with pytest.raises(UserError, match="does not name the labels"):
        open_classifier(resolve(str(tmp_path / "adapter"), workspace))


def test_labels_are_in_the_order_of_the_outputs(tiny_model: Path, tmp_path: Path) -> None:
    labels = tuple(f"label {number}" for number in range(12))
    assert labels_of(whole_classifier(tmp_path / "many", tiny_model, labels=labels)) == labels


@pytest.mark.slow
def test_a_pool_keeps_a_classifier_and_its_base_apart(
    tiny_model: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    classifier_adapter(tmp_path / "adapter", tiny_model)
    ref, base = resolve(str(tmp_path / "adapter"), workspace), resolve(str(tiny_model), workspace)
    pool = Pool()
    try:
        here = open_classifier(ref, threads=1).classify(TEXTS)
        for one, other in zip(pool.classify(ref, TEXTS), here, strict=True):
            assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
        assert pool.state(ref) == "ready" and pool.state(base) == "not loaded"
        with pytest.raises(UserError, match="chooses no labels"):
            pool.classify(base, TEXTS)
    finally:
        pool.close()
