"""The learned head: one signature with the rule, what keeps it from losing, and what it
leaves on disk.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.landscapes import Landscape, simulate
from fr.config import RoutingConfig
from fr.errors import UserError
from fr.routing.columns import COLUMNS, read_columns, register_column
from fr.routing.fixed import LOOKUPS, attempt_prices, fixed_routes, redone_look_ups
from fr.routing.folds import OUT_OF_FOLD, make_folds, resample_problems
from fr.routing.head import OperatorScores, binomial_loss, expected_rescue
from fr.routing.learn import READS, train_head
from fr.routing.policies import shuffled, values_of
from fr.routing.pool import make_pool, make_populations
from fr.routing.profiles import OPERATORS
from fr.routing.references import charge
from fr.routing.shrink import Shrinkage, calibrate, earned
from fr.routing.trained import Head

QUICK = RoutingConfig(inner_folds=3, steps=60, seeds=2, penalties=(0.002, 0.01))
STOP = len(OPERATORS)


def cells(effect=2.5, problems=120, costs=None, names=("a|x", "b|x")):
    landscape = Landscape(problems=problems, effect=effect, blur=0.2)
    found = [
        simulate(landscape, np.random.default_rng(i), name)
        for i, name in enumerate(names)
    ]
    extras = (
        {f"{o}_cost": ("100",) * problems for o in (*OPERATORS, "diagnosis")}
        if costs
        else {}
    )
    return [
        dataclasses.replace(s.profiles, extras=s.profiles.extras | extras)
        for s in found
    ]


def trained(profiles, routing=QUICK, reads="head", train=None):
    pool = make_pool(profiles)
    population = make_populations(pool, [None] * len(profiles), routing)["all"]
    train = np.ones(len(pool), bool) if train is None else train
    head, routes, _ = train_head(
        pool, population, train, READS[reads], routing, np.random.default_rng(0)
    )
    return pool, head, routes


def matrix(profiles):
    return np.column_stack(list(read_columns([profiles]).values()))


@pytest.fixture(scope="module")
def found():
    return trained(cells())


@pytest.mark.parametrize("reads", ["head", "head_signals", "head_prompt"])
def test_the_policy_on_raw_columns_is_what_was_evaluated(reads):
    pool, head, routes = trained(cells(), reads=reads)
    for c, profiles in enumerate(pool.cells):
        chosen = head.policy(profiles.cell)(matrix(profiles))
        assert np.array_equal(chosen, routes[pool.cell == c])
    assert (len(set(routes.tolist())) > 2) == (reads != "head_prompt")


def test_a_saved_head_routes_as_before(found, tmp_path):
    pool, head, _ = found
    head.save(tmp_path / "head")
    again = Head.restore(tmp_path / "head")
    for profiles in pool.cells:
        given = matrix(profiles)
        assert np.array_equal(
            again.policy(profiles.cell)(given), head.policy(profiles.cell)(given)
        )
    assert (
        again.columns == head.columns
        and again.shrinkage.margin == head.shrinkage.margin
    )
    with pytest.raises(UserError, match="holds no head"):
        Head.restore(tmp_path)


def test_a_changed_byte_of_a_saved_head_is_refused(found, tmp_path):
    _, head, _ = found
    head.save(tmp_path)
    data = (tmp_path / "head.json").read_bytes()
    for place in [*range(0, len(data), 211), len(data) - 1]:
        for changed in (
            data[:place],
            data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :],
        ):
            (tmp_path / "head.json").write_bytes(changed)
            with pytest.raises(UserError):
                Head.restore(tmp_path)
    (tmp_path / "head.json").write_bytes(data)
    assert Head.restore(tmp_path).operators == head.operators


def test_a_free_head_reads_what_comes_with_the_rollouts():
    """Neither the ancestor's scores nor probes, though only these would tell it what to
    do.
    """
    profiles = cells()
    extras = [
        p.extras | {"entropy_mean": tuple(map(str, p.features[:, 0]))} for p in profiles
    ]
    told = [dataclasses.replace(p, extras=extra) for p, extra in zip(profiles, extras)]
    pool, head, routes = trained(profiles, reads="head_free")
    # a choice a cell
    assert head.reads() == ["failed_share"] and len(set(zip(pool.cell, routes))) == 2
    _, head, routes = trained(told, reads="head_free")
    assert (
        set(head.reads()) == {"failed_share", "entropy_mean"}
        and len(set(zip(pool.cell, routes))) > 2
    )
    known = {"diagnosis": 9.0, "failures": 4.0}
    assert [charge(name, known) for name in ("head", "head_free", "head_prompt")] == [
        9.0,
        4.0,
        0.0,
    ]


def test_a_new_cell_needs_statistics_of_its_own(found):
    pool, head, _ = found
    with pytest.raises(UserError, match="no statistics of cell 'new'"):
        head.policy("new")
    given = matrix(pool.cells[0])
    own = {
        name: (given[:, f].mean(), given[:, f].std())
        for f, name in enumerate(head.columns)
    }
    route = head.policy("new", own)(given)
    # The features mean the same there, in other units.
    moved = {name: (10 * m + 1, 10 * s) for name, (m, s) in own.items()}
    assert np.array_equal(route, head.policy("new", moved)(10 * given + 1))
    assert len(set(route.tolist())) > 2


def test_outcomes_of_held_out_rows_are_not_read():
    profiles = cells()
    train = np.arange(240) % 4 > 0
    _, _, routes = trained(profiles, train=train)
    spoiled = [dataclasses.replace(p, rates=p.rates.copy()) for p in profiles]
    for c, p in enumerate(spoiled):
        p.rates[~train[c * 120 : (c + 1) * 120]] = [1, 0, 0, 0, 0]
    assert np.array_equal(trained(spoiled, train=train)[2], routes)


def test_without_signal_the_head_is_the_fixed_choice():
    departed = 0
    for seed in range(3):
        profiles = [
            simulate(Landscape(problems=120), np.random.default_rng(50 + seed)).profiles
        ]
        pool, head, routes = trained(profiles)
        population = make_populations(pool, [None], QUICK)["all"]
        fixed = fixed_routes(pool, population, np.ones(120, bool), np.zeros(5))
        departed += not np.array_equal(routes, fixed)
        assert np.isfinite(head.shrinkage.margin) or np.array_equal(routes, fixed)
    assert departed <= 1


def test_stop_is_chosen_where_an_attempt_is_not_worth_its_price():
    profiles = cells(costs=True)
    # Half of the problems of each cell are beyond any operator, and their length tells
    # which.
    for i, p in enumerate(profiles):
        lost = np.arange(120) % 2 == 0
        rates = np.where(lost[:, None], 0.0, p.rates)
        length = tuple(str(100 + 900 * b + j % 7) for j, b in enumerate(lost))
        profiles[i] = dataclasses.replace(
            p, rates=rates, extras=p.extras | {"mean_length": length}
        )
    priced = dataclasses.replace(QUICK, price=0.15)
    _, head, routes = trained(profiles, priced)
    lost = np.tile(np.arange(120) % 2 == 0, 2)
    assert (routes[lost] == STOP).mean() > 0.9 and (routes[~lost] == STOP).mean() < 0.2
    assert STOP not in trained(profiles)[2]
    assert attempt_prices(make_pool(profiles), 0.15) == pytest.approx([0.15] * 5)
    assert np.array_equal(values_of(np.ones((240, 5)), routes), (routes != STOP) * 1.0)


def test_a_cell_is_offered_its_own_operators_only():
    whole, lonely = cells()
    kept = [OPERATORS.index("retry"), OPERATORS.index("local_temp")]
    features = lonely.features.copy()
    features[:, :2] = np.nan
    lonely = dataclasses.replace(
        lonely,
        operators=("retry", "local_temp"),
        rates=lonely.rates[:, kept],
        attempts=lonely.attempts[:, kept],
        features=features,
    )
    pool, _, routes = trained([whole, lonely])
    assert set(routes[pool.cell == 1].tolist()) <= set(kept)
    assert len(set(routes[pool.cell == 0].tolist())) > 2


def test_losses_by_hand():
    scores = jnp.array([[0.0, 0.0]])
    gains, weight = jnp.array([[0.6, 0.0]]), jnp.ones(1)
    everything = jnp.ones((1, 2), bool)
    # Three even choices, stop among them: 0.6 / 3; their entropy is log 3.
    assert expected_rescue(scores, gains, everything, weight, 0.0) == pytest.approx(
        -0.2
    )
    assert expected_rescue(scores, gains, everything, weight, 0.5) == pytest.approx(
        -0.2 - 0.5 * np.log(3)
    )
    absent = jnp.array([[True, False]])
    assert expected_rescue(scores, gains, absent, weight, 0.0) == pytest.approx(-0.3)
    loss = lambda s: binomial_loss(
        s, jnp.array([[0.25, 0.5]]), jnp.array([[4.0, 0.0]]), weight
    )
    # Its least is at the rate's own logit; an operator without attempts has no say.
    best = jnp.log(jnp.array([[0.25 / 0.75, 7.0]]))
    assert np.abs(jax.grad(loss)(best)).max() < 1e-6
    assert loss(best) == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))


def test_a_row_of_no_weight_has_no_gradient():
    model = OperatorScores(3, hidden=4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)))
    params = model.init(jax.random.key(0), x)
    rates = jnp.asarray(np.random.default_rng(1).random((6, 3)))
    weight = jnp.array([1.0, 1, 1, 1, 0, 0])
    every = jnp.ones((6, 3), bool)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(params, n):
        loss = lambda p: expected_rescue(
            model.apply(p, x[:n]), rates[:n], every[:n], weight[:n], 0.1
        )
        return jax.grad(loss)(params)

    whole, part = gradient(params, 6), gradient(params, 4)
    assert all(
        jnp.allclose(a, b, atol=1e-6)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(part))
    )


def test_calibration_undoes_a_wrong_scale_and_forgets_noise():
    rng = np.random.default_rng(0)
    n, attempts = 3000, np.full((3000, 3), 20)
    level, own = rng.normal(size=(n, 1)), rng.normal(size=(n, 3))
    own -= own.mean(axis=1, keepdims=True)
    rates = 1 / (1 + np.exp(-(np.array([-1.0, 0.0, 1.0]) + 0.5 * level + 0.8 * own)))
    seen = rng.binomial(20, rates) / 20
    scores = 7 * level + 4 * own
    shrinkage = Shrinkage(calibrate(scores, seen, attempts, np.ones(n)))
    assert np.abs(shrinkage.rates(scores, attempts > 0) - rates).mean() < 0.005
    noise = calibrate(7 * level + rng.normal(size=(n, 3)), seen, attempts, np.ones(n))
    assert 0 <= noise[-1] < 0.05
    # What points the wrong way is not turned round: it is forgotten, and every operator
    # keeps its mean.
    forgotten = Shrinkage(calibrate(-scores, seen, attempts, np.ones(n)))
    assert forgotten.calibration[-1] == 0.0
    assert forgotten.rates(-scores, attempts > 0).mean(axis=0) == pytest.approx(
        seen.mean(axis=0), abs=1e-3
    )


def test_departures_must_be_earned():
    rng = np.random.default_rng(0)
    n, attempts = 200, np.full((200, 2), 10)
    side = rng.integers(2, size=n)
    scores = np.where(np.arange(2) == side[:, None], 2.0, -2.0)[None]
    fixed, prices, mass = np.zeros(n, int), np.zeros(2), np.ones(n)
    told = np.where(np.arange(2) == side[:, None], 0.6, 0.3)
    args = attempts, prices, mass, fixed
    assert np.isfinite(earned(scores, told, *args, caution=2.0).margin)
    assert np.isinf(earned(scores, np.full((n, 2), 0.4), *args, caution=2.0).margin)
    assert np.isinf(earned(scores, told, *args, caution=1e9).margin)


def test_problems_stay_together_in_folds_and_resamples():
    one = cells(names=("a|x",))[0]
    profiles = [dataclasses.replace(one, cell=name) for name in ("a|x", "b|x", "c|y")]
    pool = make_pool(profiles)
    assert pool.families == ("x", "y")
    fold = np.full(360, -1)
    for k, f in enumerate(make_folds(pool, "kfold", 5, np.random.default_rng(0))):
        assert not (f.train & f.test).any()
        fold[f.test] = k
    # The same problem of two cells of one family is one problem; of another family it
    # is another.
    assert np.array_equal(fold[:120], fold[120:240]) and not np.array_equal(
        fold[:120], fold[240:]
    )
    weights = resample_problems(pool, np.arange(360), 50, np.random.default_rng(0))
    assert np.array_equal(weights[:, :120], weights[:, 120:240])
    assert (weights[:, :240].sum(axis=1) == 240).all() and (
        weights[:, 240:].sum(axis=1) == 120
    ).all()


def test_a_file_that_supports_no_protocol_says_so():
    pool = make_pool(cells(names=("a|x", "b|x")))
    rng = np.random.default_rng(0)
    assert "one family" in make_folds(pool, "leave_family_out", 5, rng)
    assert len(make_folds(pool, "leave_cell_out", 5, rng)) == 2
    assert "one cell" in make_folds(
        make_pool(cells(names=("a|x",))), "leave_cell_out", 5, rng
    )
    assert make_folds(pool, "kfold", 200, rng) == "needs 400 problems for 200 folds"


def test_look_ups_fall_back_from_cell_to_family_to_everything():
    profiles = cells(effect=0.0, names=("a|x", "b|x", "c|y"))
    for o, p in zip((1, 2, 3), profiles):
        p.rates[:] = 0.1
        p.rates[:, o] = 0.5 + o / 20
    pool = make_pool(profiles)
    population = make_populations(pool, [None] * 3, QUICK)["all"]
    every = np.ones(360, bool)
    look = lambda rows, by="cell": fixed_routes(
        pool, population, rows, np.zeros(5), by
    )[::120].tolist()
    assert (
        look(every) == [1, 2, 3]
        and look(every, "family") == [2, 2, 3]
        and look(every, "all") == [3] * 3
    )
    assert look(pool.cell != 0) == [2, 2, 3] and look(pool.cell != 2) == [1, 2, 2]


@pytest.mark.parametrize("by", LOOKUPS)
@pytest.mark.parametrize("protocol", OUT_OF_FOLD)
def test_a_look_up_redone_on_the_sample_itself_is_the_look_up(by, protocol):
    pool = make_pool(cells(effect=0.0, problems=60, names=("a|x", "b|x", "c|y")))
    population = make_populations(pool, [None] * 3, QUICK)["all"]
    folds = make_folds(pool, protocol, 4, np.random.default_rng(0))
    weights = resample_problems(pool, np.arange(len(pool)), 3, np.random.default_rng(1))
    redone = redone_look_ups(pool, population, folds, weights, np.full(5, 0.1), by)
    for r, weight in enumerate(weights):
        heavier = dataclasses.replace(
            population,
            mass=weight * population.mass,
            values=weight[:, None] * population.values,
        )
        value = np.zeros(len(pool))
        for fold in folds:
            choice = fixed_routes(pool, heavier, fold.train, np.full(5, 0.1), by)
            value[fold.test] = values_of(heavier.values, choice)[fold.test]
        assert redone[:, r] == pytest.approx(
            [value[pool.cell == c].sum() for c in range(3)]
        )


def test_shuffled_is_the_mean_over_shuffles_of_each_fold():
    pool = make_pool(cells())
    population = make_populations(pool, [None] * 2, QUICK)["all"]
    rng = np.random.default_rng(0)
    folds = make_folds(pool, "kfold", 3, rng)
    choice = rng.integers(5, size=240)
    exact = shuffled(pool, population, choice, folds)
    drawn = []
    for _ in range(400):
        moved = choice.copy()
        for c in range(2):
            for fold in folds:
                here = np.flatnonzero((pool.cell == c) & fold.test)
                moved[here] = rng.permutation(choice[here])
        drawn.append(values_of(population.values, moved).mean())
    assert exact.mean() == pytest.approx(np.mean(drawn), abs=0.003)
    # What differs between folds only, as a look-up does, loses nothing.
    by_fold = np.where(folds[0].test, 1, 2)
    expected = values_of(population.values, by_fold).sum()
    assert shuffled(pool, population, by_fold, folds).sum() == pytest.approx(expected)


def test_columns_are_one_registry():
    assert list(COLUMNS)[:3] == ["spread", "concentration", "logit_dispersion"]
    with pytest.raises(ValueError, match="registered twice"):
        register_column("failed_share", "nuisance", "failures")(lambda profiles: None)
    with pytest.raises(ValueError, match="kind"):
        register_column("other", "hunch", "group")
    one, two = cells()
    without = dataclasses.replace(
        two, features=np.where([True, False, False], np.nan, two.features)
    )
    found = read_columns([one, without])
    assert (
        np.isnan(found["spread"][120:]).all()
        and not np.isnan(found["spread"][:120]).any()
    )
    assert "mean_length" not in found
