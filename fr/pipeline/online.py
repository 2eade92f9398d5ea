"""Online routing: each problem's remaining budget goes to its router's operator."""

import collections
import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from etils import epath

from fr import distributed, store
from fr.comparison.summary import UNITS
from fr.diagnosis.junction import Trace
from fr.errors import UserError
from fr.interventions import OPERATORS, OperatorContext
from fr.orders.routers import FIXED, Router, fixed_router, load_router
from fr.pipeline.intervene import setting_of
from fr.pipeline.online_summary import (
    LOGGED,
    by_problem,
    logged_values,
    online_curves,
    solved,
)
from fr.pipeline.profile_tables import profile_problem
from fr.profiles import FEATURES, read_profiles
from fr.progress import Bar
from fr.routing.columns import COLUMNS
from fr.runs.attempts import graded
from fr.runs.claims import claimed
from fr.runs.planned import Planned, plan_attempt, plan_change
from fr.runs.run import Run
from fr.sampling.sampling_params import row_key
from fr.sampling.sources import PauseAction
from fr.stats.bootstrap import rate
from fr.tasks.formats import build_probe
from fr.types import RIGHT, ROLLOUT, Probe, Problem, Request, Rollout, is_failure
from fr.workdir import PathLike, claim_workdir, write_json

STOP = "stop"  # a logged choice: no attempt follows
_LOGGED_TYPES = (pa.string(), pa.string(), pa.float64())


@dataclasses.dataclass
class Case:
    """A problem under way.

    Attributes:
        problem: the problem.
        prompt: its tokens.
        attempts: made so far, in order.
        operator: of the next attempt.
        choice: that its attempts follow.
        logged: the router's choice, the one that was taken, and its chance.
        setting: of its failures, once it has been routed.
        over: no attempt follows.
    """

    problem: Problem
    prompt: tuple[int, ...]
    attempts: list[store.Attempt] = dataclasses.field(default_factory=list)
    operator: str = ROLLOUT
    choice: str = ""
    logged: tuple[str | None, str | None, float | None] = (None, None, None)
    setting: OperatorContext | None = None
    over: bool = False


class OnlineSource:
    """Work source: plain attempts at each problem, then attempts by its operator.

    After `online_after` plain attempts come `attempts` routed ones, one at a time per
    problem. A problem's course follows from its own attempts and the router alone. With
    a verifier a right attempt ends it; without one no grade is read.
    """

    def __init__(
        self,
        run: Run,
        router: Router,
        problems: Sequence[Problem],
        with_ancestor: bool,
        progress: Callable[[int], object] = lambda count: None,
    ):
        """Prepare the problems.

        Args:
            run: models, task and settings.
            router: chooses the operator of a problem.
            problems: in the order in which they begin.
            with_ancestor: decode beside the ancestor.
            progress: is told the number of problems that have ended.
        """
        encode = lambda problem: run.specialist.encode(run.task.prompt(problem))
        self.cases = [Case(problem, encode(problem)) for problem in problems]
        self._run, self._router, self._progress = run, router, progress
        self._with_ancestor = with_ancestor
        groups = {COLUMNS[name].group for name in router.reads}
        self._reads_confidence = "confidence" in groups
        self._waiting = collections.deque(self.cases)
        self._flying: dict[str, tuple[Case, Planned]] = {}

    def next(self, finished: Sequence[Rollout], free: int) -> list[Request]:
        """Continue the problems of finished attempts, then begin new ones.

        Args:
            finished: attempts that have ended.
            free: number of requests wanted.

        Returns:
            At most `free` requests.
        """
        heard = [self._flying.pop(rollout.row.id) for rollout in finished]
        records = graded(self._run, [planned for _, planned in heard], finished)
        for (case, _), attempt in zip(heard, records):
            case.attempts.append(attempt)
            self._decide(case)
        self._progress(sum(case.over for case, _ in heard))
        self._waiting.extendleft(case for case, _ in reversed(heard) if not case.over)
        begun = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        planned = [self._plan(case) for case in begun]
        self._flying |= {p.row.id: (case, p) for case, p in zip(begun, planned)}
        return [p.row for p in planned]

    def on_pause(self, row: Request, tokens: np.ndarray) -> PauseAction:
        """Let the operator of a paused request act.

        Args:
            row: the request.
            tokens: generated so far.

        Returns:
            How it goes on.
        """
        on_pause = self._flying[row.id][1].on_pause
        return on_pause(tokens) if on_pause else PauseAction()

    def probe_plan(self, row: Request, tokens: np.ndarray) -> Probe | None:
        """Ask for confidence along attempts that are diagnosed, if the router reads it.

        Args:
            row: the request.
            tokens: generated.

        Returns:
            The probe or None.
        """
        case, planned = self._flying[row.id]
        cuts = self._run.config.sampling.probe_cuts
        if not cuts or planned.operator != ROLLOUT or not self._reads_confidence:
            return None
        return build_probe(case.problem, tokens, self._run.specialist, cuts, ("own",))

    def _plan(self, case: Case) -> Planned:
        """The next attempt; where operators share keys, with one not used before."""
        shared = self._run.config.intervention.keys == "shared" and case.setting
        names = set(OPERATORS) if shared else {case.operator}
        index = sum(attempt.operator in names for attempt in case.attempts)
        who = self._run, case.prompt, case.problem, case.operator, index
        if case.setting is None:
            return plan_attempt(*who, {}, self._with_ancestor)
        setting = dataclasses.replace(case.setting, attempt=index)
        change = OPERATORS[case.operator].change(setting)
        return plan_change(*who, change, self._with_ancestor)

    def _decide(self, case: Case) -> None:
        c, made = self._run.config.intervention, len(case.attempts)
        solved = c.verifier and case.attempts[-1].grade == RIGHT
        case.over = solved or made >= c.online_after + c.attempts
        if case.over:
            return
        if made == c.online_after:
            self._route(case)
        elif made > c.online_after:
            case.operator = self._router.then(case.choice, made - c.online_after)
            tried = any(attempt.operator == case.operator for attempt in case.attempts)
            if tried and OPERATORS[case.operator].deterministic:
                case.operator = "retry"  # a second attempt would be the same attempt

    def _route(self, case: Case) -> None:
        """Ask the router; a problem whose attempts have no grade is sampled again."""
        config, attempts = self._run.config, case.attempts
        verifier, first = config.intervention.verifier, config.intervention.online_after
        failed = [a for a in attempts if is_failure(a.grade) or not verifier]
        traces = [Trace(a.stats, ~a.forced) for a in failed or attempts]
        told = zip((a.tokens for a in failed or attempts), traces)
        given = case.problem, list(told), self._with_ancestor
        case.setting = setting_of(self._run, *given)
        operator: str | None = "retry"
        if failed:
            reads = (failed, case.problem, first, config)
            values = profile_problem(*reads) if self._router.columns else {}
            operator = self._router.choose(values)
        if config.intervention.online_explore and failed:
            operator = self._explore(case, operator)
        case.over, case.choice = operator is None, operator or "retry"
        case.operator = self._router.then(case.choice, 0)

    def _explore(self, case: Case, chosen: str | None) -> str | None:
        """A random operator in a share of the problems; what was drawn is logged."""
        run, share = self._run, self._run.config.intervention.online_explore
        names = [
            operator.name
            for operator in run.operators(case.problem.task)[0]
            if self._with_ancestor or not operator.needs_ancestor
        ]
        draw = np.random.default_rng(
            row_key(run.config.seed, "explore", case.problem.id)
        )
        at_random = draw.random() < share
        taken = names[draw.integers(len(names))] if at_random else chosen
        chance = share * (taken in names) / len(names) + (1 - share) * (taken == chosen)
        case.logged = (chosen or STOP, taken or STOP, chance)
        return taken


def open_router(
    run: Run, name: str, calibration: PathLike | None, saved: PathLike | None
) -> Router:
    """Open the router of `--router`.

    Args:
        run: models, task and settings.
        name: of the router.
        calibration: profile table of its z-statistics; None: the workdir's own.
        saved: folder of a saved router; None: `router/` or `schedule/` of the workdir.

    Returns:
        The router.

    Raises:
        UserError: if a router that was learned for one task would meet the failures of
            several.
    """
    if len(run.parts) > 1 and not name.startswith(FIXED):
        raise UserError(
            f"--router={name} routes failures of one task at a time, and here are "
            f"{', '.join(run.parts)}; set config.task.name to one of them"
        )
    part, two = run.parts[0], run.ancestor is not None
    operators = [operator.name for operator in run.operators(part)[0]]
    table = epath.Path(calibration or run.workdir / "profiles.csv")
    there = calibration or table.exists()
    cells = {p.cell: p for p in read_profiles(table)} if there else {}
    cell = run.cell(part)
    # Failures of another cell may stand in for an unknown one.
    chosen = cells.get(cell, next(iter(cells.values()), None))
    known = FEATURES if two else FEATURES[2:]
    folder = saved or run.workdir / ("router" if name == "learned" else "schedule")
    return load_router(name, operators, cell, known, chosen, folder)


def route_online(run: Run, router: Router, against: Router | None = None) -> dict:
    """Make the attempts of a router and of its reference, and compare them.

    Args:
        run: models, task and settings.
        router: of the problems.
        against: the reference; None: retry.

    Returns:
        The content of `online.json`, which is written.
    """
    reference, c = against or fixed_router("retry"), run.config.intervention
    made = {r.name: by_problem(attempt_online(run, r)) for r in (router, reference)}
    own = made[router.name]
    later = (group[c.online_after :] for group in own)
    routed = [group[0]["operator"] for group in later if group]
    names, first = zip(*((group[0]["problem"], solved(group[:1])) for group in own))
    right = rate(names, first, run.config.routing.bootstrap, run.config.seed)
    summary = {
        **UNITS,
        "router": router.name,
        "reference": reference.name,
        "verifier": c.verifier,
        "problems": len(run.problems),
        "online_after": c.online_after,
        "declared_budget": c.online_budget or None,
        "routes": dict(sorted(Counter(routed).items())),
        "right_at_first": right,
        "curves": online_curves(run, made, reference.name),
        "logged": logged_values(run, own),
    }
    if distributed.is_first():
        write_json(run.workdir / "online.json", summary)
    return summary


def attempt_online(run: Run, router: Router) -> epath.Path:
    """Make all attempts of a router's run; a killed one redoes its unfinished shards.

    Args:
        run: models, task and settings.
        router: of the problems.

    Returns:
        Folder of the attempts; a shard is a block of problems.

    Raises:
        UserError: if the folder holds the attempts of another router.
    """
    folder, c = run.workdir / "online" / router.name.replace(":", "_"), run.config
    # The budget of the comparison is written before the first attempt.
    budget = c.intervention.online_budget
    declared = router.record | ({"budget": budget} if budget else {})
    name = f"{router.name} folder"
    distributed.in_turn(name, lambda: claim_workdir(folder, declared))
    run.begin("online")
    most = c.intervention.online_after + c.intervention.attempts
    size = max(1, c.sampling.shard_rows // most)
    blocks = [run.problems[i : i + size] for i in range(0, len(run.problems), size)]
    with_ancestor = run.ancestor is not None and reads_ancestor(router)
    steered = any(OPERATORS[name].uses_vectors for name in router.tries())
    prompts = (run.specialist.encode(run.task.prompt(p)) for p in run.problems)
    # Room for a whole attempt that is kept, or for a longer prompt.
    longest = 2 * (max(map(len, prompts)) + c.sampling.max_new_tokens)
    have, label = store.finished(folder), distributed.label(router.name)
    left = {i: block for i, block in enumerate(blocks) if i not in have}
    with (
        Bar(total=sum(map(len, left.values())), desc=label, unit="problem") as bar,
        claimed(folder, left, lambda i: bar.update(len(left[i]))) as claims,
    ):
        for claim in claims:
            asked = left[claim.index], with_ancestor, bar.update
            source = OnlineSource(run, router, *asked)
            run.engine(with_ancestor, steered).run(source, longest)
            made = [(case, a) for case in source.cases for a in case.attempts]
            logged = zip(LOGGED, zip(*(case.logged for case, _ in made)), _LOGGED_TYPES)
            more = {name: pa.array(values, kind) for name, values, kind in logged}
            claim.write([attempt for _, attempt in made], more)
    distributed.wait(router.name)
    return folder


def reads_ancestor(router: Router) -> bool:
    """Say whether a router's attempts are decoded beside the ancestor.

    Args:
        router: the router.

    Returns:
        True if its features or one of its operators need the ancestor.
    """
    # The third feature has a form without an ancestor.
    groups = {COLUMNS[name].group for name in router.reads - {"logit_dispersion"}}
    operators = any(OPERATORS[name].uses_ancestor for name in router.tries())
    return operators or not groups.isdisjoint(("lineage", "demotion"))
