"""Sampling parameters of each operator, and operators of a run without an ancestor."""

import dataclasses

import numpy as np
import pytest
from conftest import row

from fr.config import Config
from fr.diagnosis.junction import Calibration
from fr.errors import UserError
from fr.interventions import OPERATORS, OperatorContext, register, select
from fr.models import Model
from fr.sampling import sampling_params, steering
from fr.types import Problem

CALIBRATION = Calibration(
    threshold=1.5, warmup=4, cov_mean=0.2, cov_sd=0.7, lengths=(10, 30), fires=(2, 9)
)
DETECTOR = dict(
    detector=steering.DEMOTION,
    detector_width=1,
    threshold=1.5,
    warmup=4,
    cov_mean=0.2,
    cov_sd=0.7,
)
ALL = Config().intervention.operators


def fill(name, attempt=0, has_ancestor=True, config=Config(), problem="p"):
    """The fields that an operator sets."""
    asked = Problem(problem, "", "", "countdown")
    change = OPERATORS[name].change(
        OperatorContext(config, asked, attempt, CALIBRATION, has_ancestor)
    )
    assert (change.prompt, change.kept, change.on_pause) == (
        None,
        (),
        None,
    )  # it starts from the prompt
    return change.params


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("retry", {}),
        (
            "sparse_steer",
            dict(
                DETECTOR,
                operator=steering.STEER_ONCE,
                alpha=0.7,
                geodesic=steering.CHOSEN,
            ),
        ),
        (
            "wrong_geodesic",
            dict(
                DETECTOR,
                operator=steering.STEER_ONCE,
                alpha=0.7,
                geodesic=steering.OTHER,
            ),
        ),
        (
            "dense_steer",
            dict(operator=steering.STEER_DENSE, alpha=0.7, geodesic=steering.PATH),
        ),
        (
            "dense_sampled",
            dict(operator=steering.STEER_SAMPLED, alpha=0.7, geodesic=steering.PATH),
        ),
        (
            "local_temp",
            dict(
                DETECTOR, operator=steering.HEAT, local_temperature=1.0, local_span=16
            ),
        ),
    ],
)
def test_rows(name, wanted):
    assert fill(name) == wanted
    sampling_params.write_params(
        sampling_params.default_params(1), 0, row("fits", **wanted)
    )  # every name is a field of SamplingParams


def test_detectors_by_setting():
    by_z = dataclasses.replace(
        Config(), diagnosis=dataclasses.replace(Config().diagnosis, score="z", width=5)
    )
    assert fill("sparse_steer", config=by_z)["detector"] == steering.Z_SCORE
    assert fill("sparse_steer", config=by_z)["detector_width"] == 5
    assert fill("local_temp", has_ancestor=False)["detector"] == steering.LOGIT_VAR


def test_local_temperatures_take_turns():
    assert [fill("local_temp", i)["local_temperature"] for i in range(7)] == [
        1.0,
        1.5,
        2.0,
        1.0,
        1.5,
        2.0,
        1.0,
    ]


def test_page_hinkley_is_a_row_of_numbers_too():
    diagnosis = dataclasses.replace(
        Config().diagnosis, detector="page_hinkley", drift=0.2
    )
    own = fill(
        "sparse_steer", config=dataclasses.replace(Config(), diagnosis=diagnosis)
    )
    assert own == fill("sparse_steer") | {"drift": 0.2}


@pytest.mark.parametrize(
    "name, wanted",
    [
        (
            "contrastive",
            dict(
                operator=steering.STEER_SAMPLED,
                alpha=1.5,
                geodesic=steering.PATH,
                plausible=0.1,
                top_p=1.0,
                top_k=0,
            ),
        ),
        (
            "ancestor_alone",
            dict(operator=steering.STEER_SAMPLED, alpha=0.0, geodesic=steering.PATH),
        ),
        ("greedy", dict(temperature=0.0)),
        ("nucleus", dict(top_p=0.9)),
        ("min_p", dict(temperature=1.0, min_p=0.1)),
    ],
)
def test_rows_of_numbers_beside_those_of_the_source(name, wanted):
    assert fill(name) == wanted
    sampling_params.write_params(
        sampling_params.default_params(1), 0, row("fits", **wanted)
    )
    assert OPERATORS[name].needs_ancestor == (
        wanted.get("operator") in steering.NEEDS_ANCESTOR
    )
    assert (
        OPERATORS[name].deterministic == (name == "greedy")
        and not OPERATORS[name].uses_oracle
    )


def test_the_random_control_steers_in_as_many_attempts_as_the_detector():
    """Played on lengths drawn like the failures': both fire in the same share of
    attempts.
    """
    rng = np.random.default_rng(0)
    lengths = tuple(rng.integers(20, 80, 40).tolist())
    fires = tuple(
        int(rng.integers(length)) if rng.random() < 0.6 else -1 for length in lengths
    )
    known = dataclasses.replace(CALIBRATION, lengths=lengths, fires=fires)
    asked = Problem("p", "", "", "countdown")
    fired = []
    for attempt in range(4000):
        own = OPERATORS["sparse_steer_random"].fill(
            OperatorContext(Config(), asked, attempt, known, True)
        )
        at = own.get("fire_position", -1)
        assert (at >= 0) != (own["threshold"] == np.inf)
        fired.append(0 <= at < lengths[rng.integers(len(lengths))])
    wanted = np.mean(np.array(fires) >= 0)
    assert abs(np.mean(fired) - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / 4000)
    never = dataclasses.replace(known, fires=(-1,) * len(lengths))
    assert (
        OPERATORS["sparse_steer_random"].fill(
            OperatorContext(Config(), asked, 0, never, True)
        )["threshold"]
        == np.inf
    )


def test_random_positions_are_uniform_over_the_lengths():
    positions = [fill("sparse_steer_random", i)["fire_position"] for i in range(2000)]
    assert positions[:5] == [
        fill("sparse_steer_random", i)["fire_position"] for i in range(5)
    ]
    assert positions[:5] != [
        fill("sparse_steer_random", i, problem="q")["fire_position"] for i in range(5)
    ]
    # One failure in two has 10 tokens, the other 30: 1/20 + 1/60 a position up to 10,
    # 1/60 after it.
    expected = 2000 * np.where(np.arange(30) < 10, 1 / 20 + 1 / 60, 1 / 60)
    seen = np.bincount(positions, minlength=30)
    assert len(seen) == 30
    chi2 = np.sum((seen - expected) ** 2 / expected)
    assert abs(chi2 - 29) < 4 * np.sqrt(2 * 29)
    assert "fire_position" in fill("sparse_steer_random")
    steer = {
        k: v for k, v in fill("sparse_steer_random").items() if k != "fire_position"
    }
    assert steer == fill("sparse_steer")  # only the place differs


def test_without_an_ancestor(char_tokenizer):
    codec = Model(None, None, char_tokenizer)
    able, left_out = select(ALL, True, codec, "countdown")
    assert [o.name for o in able] == list(ALL) and left_out == {}
    able, left_out = select(ALL, False, codec, "countdown")
    assert [o.name for o in able] == ["retry", "local_temp"]
    assert left_out == dict.fromkeys(
        set(ALL) - {"retry", "local_temp"}, "needs an ancestor"
    )
    for (
        name
    ) in ALL:  # what cannot run without an ancestor is what the loop would refuse
        assert OPERATORS[name].needs_ancestor == (
            fill(name).get("operator") in steering.NEEDS_ANCESTOR
        )
    uses = [o.name for o in select(ALL, True, codec, "countdown")[0] if o.uses_ancestor]
    assert uses == [n for n in ALL if n != "retry"]
    assert [n for n in ALL if OPERATORS[n].deterministic] == ["dense_steer"]


def test_a_name_is_taken_once_and_an_unknown_one_is_explained():
    with pytest.raises(ValueError, match="'retry' is registered twice"):
        register("retry")(lambda setting: {})
    with pytest.raises(UserError, match="sparse_steer"):
        select(("sparse_ster",), True, None, "countdown")
