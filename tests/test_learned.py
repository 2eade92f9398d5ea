"""The learned router: one signature with the rule, safe deviation, and its files."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_profiles import routing_data

from benchmarks.landscapes import Landscape, simulate
from fr.config import RoutingConfig
from fr.errors import UserError
from fr.orders.budgets import diagnosis_cost
from fr.profiles import OPERATORS
from fr.routing.baselines import look_up, resampled_look_up, shuffled, values_of
from fr.routing.columns import COLUMNS, read_columns, register_column
from fr.routing.dataset import OUT_OF_FOLD
from fr.routing.learned import LearnedRouter
from fr.routing.policies import LOOK_UPS, learned_policies
from fr.routing.training import (
    OperatorScores,
    binomial_loss,
    expected_rescue,
    train_router,
)
from fr.stats.safe_deviation import SafeDeviation, calibrate, choose_deviation

POLICIES = {policy.name: policy for policy in learned_policies(fit=None)}
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


def trained(profiles, routing=QUICK, reads="learned", train=None):
    data = routing_data(*profiles, routing=dataclasses.replace(routing, splits=2))
    train = np.ones(len(data), bool) if train is None else train
    given = data.reading(POLICIES[reads].feature_groups)
    router, choice = train_router(given, train, np.random.default_rng(0))
    return data, router, choice.operator


def matrix(profiles):
    return np.column_stack(list(read_columns([profiles]).values()))


@pytest.fixture(scope="module")
def found():
    return trained(cells())


@pytest.mark.parametrize("reads", ["learned", "learned_signals", "learned_prompt"])
def test_the_policy_on_raw_columns_is_what_was_evaluated(reads):
    data, router, routes = trained(cells(), reads=reads)
    for c, profiles in enumerate(data.cells):
        chosen = router.chooser(profiles.cell)(matrix(profiles))
        assert np.array_equal(chosen, routes[data.cell == c])
    assert (len(set(routes.tolist())) > 2) == (reads != "learned_prompt")


def test_a_saved_router_routes_as_before(found, tmp_path):
    data, router, _ = found
    router.save(tmp_path / "router")
    again = LearnedRouter.restore(tmp_path / "router")
    for profiles in data.cells:
        given = matrix(profiles)
        assert np.array_equal(
            again.chooser(profiles.cell)(given), router.chooser(profiles.cell)(given)
        )
    assert (
        again.columns == router.columns
        and again.deviation.min_gain == router.deviation.min_gain
    )
    with pytest.raises(UserError, match="holds no router"):
        LearnedRouter.restore(tmp_path)


def test_a_changed_byte_of_a_saved_router_is_refused(found, tmp_path):
    _, router, _ = found
    router.save(tmp_path)
    data = (tmp_path / "router.json").read_bytes()
    for place in [*range(0, len(data), 211), len(data) - 1]:
        for changed in (
            data[:place],
            data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :],
        ):
            (tmp_path / "router.json").write_bytes(changed)
            with pytest.raises(UserError):
                LearnedRouter.restore(tmp_path)
    (tmp_path / "router.json").write_bytes(data)
    assert LearnedRouter.restore(tmp_path).operators == router.operators


def test_a_free_router_reads_what_comes_with_the_rollouts():
    """Neither the ancestor's scores nor probes, though only these would tell it what
    to do.
    """
    profiles = cells()
    extras = [
        p.extras | {"entropy_mean": tuple(map(str, p.features[:, 0]))} for p in profiles
    ]
    told = [dataclasses.replace(p, extras=extra) for p, extra in zip(profiles, extras)]
    data, router, routes = trained(profiles, reads="learned_free")
    # a choice a cell
    assert router.reads == ["failed_share"] and len(set(zip(data.cell, routes))) == 2
    _, router, routes = trained(told, reads="learned_free")
    assert (
        set(router.reads) == {"failed_share", "entropy_mean"}
        and len(set(zip(data.cell, routes))) > 2
    )
    columns = {"diagnosis": ("9",) * 120, "failures": ("4",) * 120}
    costs = {f"{name}_cost": column for name, column in columns.items()}
    costs |= {f"{name}_cost": ("1",) * 120 for name in OPERATORS}
    priced = [dataclasses.replace(p, extras=p.extras | costs) for p in profiles]
    data = routing_data(*priced, routing=dataclasses.replace(QUICK, splits=2))
    names = ("learned", "learned_free", "learned_prompt")
    paid = [diagnosis_cost(data, POLICIES[name].cost).tolist() for name in names]
    assert paid == [[cost] * 240 for cost in (9.0, 4.0, 0.0)]


def test_a_new_cell_needs_statistics_of_its_own(found):
    data, router, _ = found
    with pytest.raises(UserError, match="no statistics of cell 'new'"):
        router.chooser("new")
    given = matrix(data.cells[0])
    own = {
        name: (given[:, f].mean(), given[:, f].std())
        for f, name in enumerate(router.columns)
    }
    route = router.chooser("new", own)(given)
    # The features mean the same there, in other units.
    moved = {name: (10 * m + 1, 10 * s) for name, (m, s) in own.items()}
    assert np.array_equal(route, router.chooser("new", moved)(10 * given + 1))
    assert len(set(route.tolist())) > 2


def test_outcomes_of_held_out_rows_are_not_read():
    profiles = cells()
    train = np.arange(240) % 4 > 0
    _, _, routes = trained(profiles, train=train)
    spoiled = [dataclasses.replace(p, rates=p.rates.copy()) for p in profiles]
    for c, p in enumerate(spoiled):
        p.rates[~train[c * 120 : (c + 1) * 120]] = [1, 0, 0, 0, 0]
    assert np.array_equal(trained(spoiled, train=train)[2], routes)


def test_without_signal_the_router_is_the_fixed_choice():
    departed = 0
    for seed in range(3):
        profiles = [
            simulate(Landscape(problems=120), np.random.default_rng(50 + seed)).profiles
        ]
        data, router, routes = trained(profiles)
        fixed = look_up(data, np.ones(120, bool), "cell")
        departed += not np.array_equal(routes, fixed)
        assert np.isfinite(router.deviation.min_gain) or np.array_equal(routes, fixed)
    assert departed <= 1


def test_stop_is_chosen_where_an_attempt_is_not_worth_its_price():
    profiles = cells(costs=True)
    # Half of the problems of each cell are beyond any operator, and their length
    # tells which.
    for i, p in enumerate(profiles):
        lost = np.arange(120) % 2 == 0
        rates = np.where(lost[:, None], 0.0, p.rates)
        length = tuple(str(100 + 900 * b + j % 7) for j, b in enumerate(lost))
        profiles[i] = dataclasses.replace(
            p, rates=rates, extras=p.extras | {"mean_length": length}
        )
    priced = dataclasses.replace(QUICK, attempt_price=0.15)
    _, router, routes = trained(profiles, priced)
    lost = np.tile(np.arange(120) % 2 == 0, 2)
    assert (routes[lost] == STOP).mean() > 0.9 and (routes[~lost] == STOP).mean() < 0.2
    assert STOP not in trained(profiles)[2]
    few = dataclasses.replace(priced, splits=2)
    assert routing_data(*profiles, routing=few).prices == pytest.approx([0.15] * 5)
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
    data, _, routes = trained([whole, lonely])
    assert set(routes[data.cell == 1].tolist()) <= set(kept)
    assert len(set(routes[data.cell == 0].tolist())) > 2


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
    deviation = SafeDeviation(calibrate(scores, seen, attempts, np.ones(n)))
    assert np.abs(deviation.rates(scores, attempts > 0) - rates).mean() < 0.005
    noise = calibrate(7 * level + rng.normal(size=(n, 3)), seen, attempts, np.ones(n))
    assert 0 <= noise[-1] < 0.05
    # What points the wrong way is not turned round: it is forgotten, and every operator
    # keeps its mean.
    forgotten = SafeDeviation(calibrate(-scores, seen, attempts, np.ones(n)))
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
    assert np.isfinite(choose_deviation(scores, told, *args, errors=2.0).min_gain)
    assert np.isinf(
        choose_deviation(scores, np.full((n, 2), 0.4), *args, errors=2.0).min_gain
    )
    assert np.isinf(choose_deviation(scores, told, *args, errors=1e9).min_gain)


def few(**changes):
    return dataclasses.replace(QUICK, splits=2, bootstrap=50, **changes)


def test_problems_stay_together_in_folds_and_resamples():
    one = cells(names=("a|x",))[0]
    profiles = [dataclasses.replace(one, cell=name) for name in ("a|x", "b|x", "c|y")]
    data = routing_data(*profiles, routing=few())
    assert data.families == ("x", "y")
    fold = np.full(360, -1)
    for k, f in enumerate(data.folds("kfold")):
        assert not (f.train & f.test).any()
        fold[f.test] = k
    # The same problem of two cells of one family is one problem; of another family it
    # is another.
    assert np.array_equal(fold[:120], fold[120:240]) and not np.array_equal(
        fold[:120], fold[240:]
    )
    weights = data.resamples
    assert np.array_equal(weights[:, :120], weights[:, 120:240])
    assert (weights[:, :240].sum(axis=1) == 240).all() and (
        weights[:, 240:].sum(axis=1) == 120
    ).all()


def test_a_file_that_supports_no_protocol_says_so():
    data = routing_data(*cells(names=("a|x", "b|x")), routing=few(folds=200))
    assert "one family" in data.folds("leave_family_out")
    assert len(data.folds("leave_cell_out")) == 2
    alone = routing_data(*cells(names=("a|x",)), routing=few())
    assert "one cell" in alone.folds("leave_cell_out")
    assert data.folds("kfold") == "needs 400 problems for 200 folds"


def test_look_ups_fall_back_from_cell_to_family_to_everything():
    profiles = cells(effect=0.0, names=("a|x", "b|x", "c|y"))
    for o, p in zip((1, 2, 3), profiles):
        p.rates[:] = 0.1
        p.rates[:, o] = 0.5 + o / 20
    data = routing_data(*profiles, routing=few())
    every = np.ones(360, bool)
    look = lambda rows, by="cell": look_up(data, rows, by)[::120].tolist()
    assert (
        look(every) == [1, 2, 3]
        and look(every, "family") == [2, 2, 3]
        and look(every, "all") == [3] * 3
    )
    assert look(data.cell != 0) == [2, 2, 3] and look(data.cell != 2) == [1, 2, 2]


@pytest.mark.parametrize("by", LOOK_UPS.values())
@pytest.mark.parametrize("protocol", OUT_OF_FOLD)
def test_a_look_up_redone_on_the_sample_itself_is_the_look_up(by, protocol):
    routing = few(folds=4, attempt_price=0.1)
    data = routing_data(
        *cells(effect=0.0, problems=60, names=("a|x", "b|x", "c|y")), routing=routing
    )
    folds, weights = data.folds(protocol), data.resamples[:4]
    redone = resampled_look_up(data, folds, weights, by)
    for r, weight in enumerate(weights):
        heavier = dataclasses.replace(
            data, mass=weight * data.mass, values=weight[:, None] * data.values
        )
        value = np.zeros(len(data))
        for fold in folds:
            choice = look_up(heavier, fold.train, by)
            value[fold.test] = values_of(heavier.values, choice)[fold.test]
        assert redone[:, r] == pytest.approx(
            [value[data.cell == c].sum() for c in range(3)]
        )


def test_shuffled_is_the_mean_over_shuffles_of_each_fold():
    data = routing_data(*cells(), routing=few(folds=3))
    rng = np.random.default_rng(0)
    folds = data.folds("kfold")
    choice = rng.integers(5, size=240)
    exact = shuffled(data, choice, folds)
    drawn = []
    for _ in range(400):
        moved = choice.copy()
        for c in range(2):
            for fold in folds:
                here = np.flatnonzero((data.cell == c) & fold.test)
                moved[here] = rng.permutation(choice[here])
        drawn.append(values_of(data.values, moved).mean())
    assert exact.mean() == pytest.approx(np.mean(drawn), abs=0.003)
    # What differs between folds only, as a look-up does, loses nothing.
    by_fold = np.where(folds[0].test, 1, 2)
    expected = values_of(data.values, by_fold).sum()
    assert shuffled(data, by_fold, folds).sum() == pytest.approx(expected)


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
