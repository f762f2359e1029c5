"""The check of swapped versions finds what is wrong, and nothing where nothing is."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from load_tests.swaps_check import Verdict, check_answers
from load_tests.swaps_load import Answer
from load_tests.swaps_plot import p99_by_window, slope
from load_tests.swaps_versions import Line
from models.scorer_local import LocalScorer
from models.signing import Signer
from models.weights import decode_verified, sha256_of

N = 30
LINE = Line(7, "d" * 64, N)
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
BUCKET = 4


def a_scorer() -> LocalScorer:
    return LocalScorer(LINE.digest, N, "test", "cpu")


class World:
    """Some answers by versions 1 to 5, and the log of them."""

    def __init__(self) -> None:
        self.data: dict[int, bytes] = {}
        parent = ""
        scorer = a_scorer()
        self.answers: list[Answer] = []
        self.records: dict[str, Any] = {}
        rng = np.random.default_rng(1)
        for version in range(1, 6):
            self.data[version] = LINE.signed(version, parent, SIGNER)
            parent = sha256_of(self.data[version])
            scorer.load(decode_verified(self.data[version], [SIGNER.public_key]), parent)
            X = rng.lognormal(2, 2, (3, N)).astype(np.float32)
            with scorer.snapshot() as held:
                scores = held.score_many(X)
            for i, x in enumerate(X):
                self._answer(f"{version}.{i}", version, x, scores.logit[i], scores.p[i])
        self.sha256 = {version: sha256_of(data) for version, data in self.data.items()}

    def _answer(self, name: str, version: int, x: Any, logit: Any, p: Any) -> None:
        self.answers.append(Answer(0.0, 0.001, name, version, float(p), ()))
        self.records[name] = SimpleNamespace(
            weights=SimpleNamespace(sha256=sha256_of(self.data[version])),
            scored_by=SimpleNamespace(device=a_scorer().device, bucket=BUCKET),
            score=SimpleNamespace(logit=float(logit)),
            vector=base64.b64encode(x.astype("<f4").tobytes()).decode(),
        )

    def verdict(self) -> Verdict:
        return check_answers(self.answers, self.records, self.sha256, LINE, a_scorer())


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


def test_versions_of_a_line_pass_all_gates_and_honest_answers_the_check(world: World) -> None:
    verdict = world.verdict()
    assert (verdict.checked, verdict.mixed, verdict.misnamed) == (15, 0, 0)
    assert (verdict.unrecorded, verdict.unscored, verdict.elsewhere) == (0, 0, 0)
    assert verdict.versions == {1, 2, 3, 4, 5}
    assert verdict.least_move > 1e-4


def test_an_answer_of_another_version_than_it_names_is_found(world: World) -> None:
    world.answers[3] = replace(world.answers[3], version=3)
    record = world.records[world.answers[3].decision_id]
    record.weights.sha256 = world.sha256[3]
    verdict = world.verdict()
    assert verdict.mixed == 1
    assert world.answers[3].decision_id in verdict.examples[0]


def test_a_single_bit_is_found(world: World) -> None:
    record = world.records[world.answers[8].decision_id]
    record.score.logit = float(np.nextafter(np.float32(record.score.logit), np.float32(9)))
    assert world.verdict().mixed == 1
    world.answers[2] = replace(world.answers[2], p=float(np.nextafter(world.answers[2].p, 2)))
    assert world.verdict().mixed == 2


def test_other_bytes_under_the_number_are_found(world: World) -> None:
    world.sha256[4] = "0" * 64
    assert world.verdict().misnamed == 3


def test_what_is_missing_is_counted(world: World) -> None:
    del world.records["1.0"]
    world.records["1.1"].weights = None
    world.records["1.2"].scored_by.device = "another"
    verdict = world.verdict()
    assert (verdict.unrecorded, verdict.unscored, verdict.elsewhere) == (1, 1, 1)
    assert verdict.checked == 12


def test_slopes_leave_the_settling_out() -> None:
    x = np.arange(100.0)
    y = np.where(x < 20, 1_000.0, 3.0 * x)
    assert slope(x, y) == pytest.approx(3.0)
    assert np.isnan(slope(x[:2], y[:2]))
    answers = [Answer(i / 10, 0.001 * (1 + i // 50), "d", 1, 0.5, ()) for i in range(100)]
    at_s, p99 = p99_by_window(answers)
    assert at_s.tolist() == [2.5, 7.5]
    assert p99.tolist() == pytest.approx([1.0, 2.0])
