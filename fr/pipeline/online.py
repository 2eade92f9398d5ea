"""Online routing: a problem's remaining budget goes where a frozen policy sends its failures, in the same batch."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from tqdm import tqdm

from fr import distributed, store
from fr.diagnosis.junction import Trace
from fr.interventions import OPERATORS, OperatorContext
from fr.pipeline.intervene import setting_of
from fr.pipeline.profile_tables import profile_problem
from fr.routing.columns import COLUMNS
from fr.routing.router import Router
from fr.runs.attempts import Planned, graded, plan_attempt, plan_change
from fr.runs.run import Run
from fr.sampling.sources import Resume
from fr.tasks.formats import build_probe
from fr.types import RIGHT, ROLLOUT, Probe, Problem, Request, Rollout, is_failure
from fr.workdir import claim_workdir


@dataclasses.dataclass
class Case:
    """A problem under way: its attempts in the order of their making, and what the next one will be."""

    problem: Problem
    prompt: tuple[int, ...]
    attempts: list[store.Attempt] = dataclasses.field(default_factory=list)
    operator: str = ROLLOUT
    choice: str = ""  # of the router
    setting: OperatorContext | None = None  # of its failures, once it has been routed
    over: bool = False


class OnlineSource:
    """`intervention.after` plain attempts at a problem, then `intervention.attempts` by the operator that it gets.

    One attempt of a problem is in flight at a time, many problems side by side. What happens to a problem follows
    from its own attempts and the router alone. With a verifier a right attempt ends it, and what is diagnosed are
    failures; without one no grade is looked at.
    """

    def __init__(
        self,
        run: Run,
        router: Router,
        problems: Sequence[Problem],
        with_ancestor: bool,
        progress: Callable[[int], object] = lambda count: None,
    ):
        self.cases = [
            Case(p, run.specialist.encode(run.task.prompt(p))) for p in problems
        ]
        self._run, self._router, self._with_ancestor, self._progress = (
            run,
            router,
            with_ancestor,
            progress,
        )
        self._reads_confidence = "confidence" in {
            COLUMNS[name].group for name in router.reads
        }
        self._waiting = collections.deque(self.cases)
        self._flying: dict[str, tuple[Case, Planned]] = {}

    def next(self, finished: Sequence[Rollout], free: int) -> list[Request]:
        """Those go on whose attempt has finished, in that order, before new problems begin."""
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

    def resume(self, row: Request, tokens: np.ndarray) -> Resume:
        """What the row's operator says."""
        speak = self._flying[row.id][1].speak
        return speak(tokens) if speak else Resume()

    def plan(self, row: Request, tokens: np.ndarray) -> Probe | None:
        """Confidence along the attempts that are diagnosed, where the run asks for it and the router reads it."""
        (case, planned), cuts = (
            self._flying[row.id],
            self._run.config.sampling.probe_cuts,
        )
        if not cuts or planned.operator != ROLLOUT or not self._reads_confidence:
            return None
        return build_probe(case.problem, tokens, self._run.specialist, cuts, ("own",))

    def _plan(self, case: Case) -> Planned:
        """The next attempt at a problem, with the key that it would have among an operator's attempts offline."""
        index = sum(attempt.operator == case.operator for attempt in case.attempts)
        who = self._run, case.prompt, case.problem, case.operator, index
        if case.setting is None:
            return plan_attempt(*who, {}, self._with_ancestor)
        change = OPERATORS[case.operator].change(
            dataclasses.replace(case.setting, attempt=index)
        )
        return plan_change(*who, change, self._with_ancestor)

    def _decide(self, case: Case) -> None:
        c, made = self._run.config.intervention, len(case.attempts)
        solved = c.verifier and case.attempts[-1].grade == RIGHT
        case.over = solved or made >= c.after + c.attempts
        if case.over:
            return
        if made == c.after:
            self._route(case)
        elif made > c.after:
            case.operator = self._router.then(case.choice, made - c.after)
            tried = any(attempt.operator == case.operator for attempt in case.attempts)
            if tried and OPERATORS[case.operator].deterministic:
                case.operator = "retry"  # a second attempt would be the same attempt

    def _route(self, case: Case) -> None:
        """Ask the router; a problem whose attempts could not be graded is sampled again."""
        config = self._run.config
        failed = [
            a
            for a in case.attempts
            if is_failure(a.grade) or not config.intervention.verifier
        ]
        traces = [Trace(a.stats, ~a.forced) for a in failed or case.attempts]
        told = zip((a.tokens for a in failed or case.attempts), traces)
        case.setting = setting_of(
            self._run, case.problem, list(told), self._with_ancestor
        )
        operator = "retry"
        if failed:
            values = {}
            if self._router.columns:
                values = profile_problem(
                    failed, case.problem, config.intervention.after, config
                )
            operator = self._router.choose(values)
        case.over, case.choice = operator is None, operator or "retry"
        case.operator = self._router.then(case.choice, 0)


def attempt_online(run: Run, router: Router) -> epath.Path:
    """Make all attempts of a router's run; a killed one redoes its unfinished shards. Returns their folder.

    A shard is a block of problems. Raises UserError where the folder holds the attempts of another router.
    """
    folder, c = run.workdir / "online" / router.name.replace(":", "_"), run.config
    # The budget of the comparison is written down before the first attempt, or there is none.
    declared = router.record | (
        {"budget": c.intervention.budget} if c.intervention.budget else {}
    )
    distributed.in_turn(
        f"{router.name} folder", lambda: claim_workdir(folder, declared)
    )
    run.begin("online")
    size = max(
        1, c.sampling.shard_rows // (c.intervention.after + c.intervention.attempts)
    )
    blocks = [run.problems[i : i + size] for i in range(0, len(run.problems), size)]
    with_ancestor = run.ancestor is not None and reads_ancestor(router)
    prompts = [
        len(run.specialist.encode(run.task.prompt(problem))) for problem in run.problems
    ]
    # Room for a whole attempt that is kept, or for a longer prompt.
    longest = 2 * (max(prompts) + c.sampling.max_new_tokens)
    have = store.finished(folder)
    mine = distributed.assign_shards(
        router.name, [i for i in range(len(blocks)) if i not in have]
    )
    label = distributed.label(router.name)
    with tqdm(
        total=sum(len(blocks[i]) for i in mine), desc=label, unit="problem"
    ) as bar:
        for i in mine:
            source = OnlineSource(run, router, blocks[i], with_ancestor, bar.update)
            run.engine(with_ancestor).run(source, longest)
            store.write_shard(
                folder,
                i,
                [attempt for case in source.cases for attempt in case.attempts],
            )
    distributed.wait(router.name)
    return folder


def reads_ancestor(router: Router) -> bool:
    """Whether the attempts of a router's run are decoded beside the ancestor: for its features, or an operator."""
    # Of the third feature there is a form without an ancestor.
    groups = {COLUMNS[name].group for name in router.reads - {"logit_dispersion"}}
    return not groups.isdisjoint(("lineage", "demotion")) or any(
        OPERATORS[name].uses_ancestor for name in router.tries()
    )
