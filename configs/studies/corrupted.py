"""Study: what a trace before the answer is worth when it belongs to another problem.

Models from random numbers learn (problem, trace, plan) with their own traces, with
traces of other problems (swapped), or without traces, for equal tokens, on two tasks;
then policy optimisation pays for right plans alone (arXiv 2505.13775). On Countdown the
trace carries the computation. In a maze the plan can be read off the problem. So the
swap is predicted to cost plans on Countdown, and few in mazes: the primary contrast.
"""

from fr.config import default

# Kinds of traces; a search of Countdown that is swapped or left out is a correct one.
KINDS = ("own", "swapped", "none")
OWN = {"countdown": "correct", "maze": "natural"}
STEPS = {"countdown": 1000, "maze": 1600}  # of the training from random numbers
TESTS = {
    "countdown": {"within": {}, "larger": {"largest": "15"}, "four": {"operands": "4"}},
    "maze": {
        "within": {},
        "rooms": {"maze.generator": "depth_first"},
        "drunkard": {"maze.generator": "drunkard"},
    },
}


def get_config(form: str = ""):
    """Forms: "" (0.8 million parameters), "short", and "pod" (85 million)."""
    c = default()
    c.task.problems = 128
    c.training.start = "scratch"
    c.training.sequence = 144
    c.training.learning_rate = 3e-3
    c.training.warmup_steps = 100
    c.policy.steps = 24
    c.policy.prompts = 32
    c.policy.rollouts = 8
    c.policy.microbatch = 32
    c.policy.learning_rate = 3e-4
    c.policy.schedule = "cosine"
    c.policy.max_new_tokens = 128
    c.policy.eval_every = 0
    c.policy.rollouts_every = 0
    c.sampling.max_new_tokens = 128
    c.sampling.slots = 128
    c.evaluation.samples = 4
    c.evaluation.ks = (2, 4)
    c.evaluation.cuts = 2
    c.evaluation.measures = ("traces",)
    c.study.ancestor = False
    # No arm has an ancestor to pretrain; --dry_run checks the names all the same.
    c.pretraining.traces = (("natural", 1.0),)
    kinds, steps, rewarded = KINDS, STEPS, True
    if form == "short":
        c.task.problems, c.evaluation.samples, c.study.seeds = 4, 2, (0,)
        c.training.batch, c.training.warmup_steps = 4, 1
        c.sampling.slots = 8
        kinds, steps, rewarded = KINDS[:2], dict.fromkeys(TESTS, 4), False
    if form == "pod":
        _large(c)
        steps = dict.fromkeys(TESTS, 10_000)
    arms, tests = [], []
    for task, shifts in TESTS.items():
        for kind in kinds:
            trace = OWN[task] if kind == "own" else kind
            learns = (("task.name", task), ("training.traces", f"(('{trace}', 1.0),)"))
            learns += (("training.steps", str(steps[task])),)
            arms.append((f"{task}_{kind}", learns))
            pays = (("from", f"{task}_{kind}"), ("algorithm", "grpo"))
            if rewarded:
                arms.append((f"{task}_{kind}_rl", (("task.name", task), *pays)))
        own = [name for name, _ in arms if name.startswith(task)]
        for name, changes in list(shifts.items())[: 1 if form == "short" else None]:
            # After policy optimisation only the problems that it was paid for.
            some = [arm for arm in own if name == "within" or not arm.endswith("_rl")]
            asked = (("task.name", task), ("arms", ",".join(some)))
            asked += tuple((f"task.{key}", value) for key, value in changes.items())
            tests.append((f"{task}_{name}", asked))
    c.study.arms, c.study.tests = tuple(arms), tuple(tests)
    c.study.contrasts = (
        (
            "cost_of_swap_countdown_less_maze",
            (
                (1.0, "countdown_own", "countdown_within:plan_valid"),
                (-1.0, "countdown_swapped", "countdown_within:plan_valid"),
                (-1.0, "maze_own", "maze_within:plan_valid"),
                (1.0, "maze_swapped", "maze_within:plan_valid"),
            ),
        ),
    )
    c.study.primary = ("contrast", "cost_of_swap_countdown_less_maze", "")
    pairs = [(task, kind) for task in TESTS for kind in kinds[1:]]
    c.study.declared = tuple(
        (f"{task}_{kind}", f"{task}_own", f"{task}_within:plan_valid")
        for task, kind in pairs
    )
    if rewarded:
        c.study.declared += tuple(
            (f"{task}_{kind}_rl", f"{task}_{kind}", f"{task}_within:trace_valid")
            for task in TESTS
            for kind in KINDS[:2]
        )
    return c


def _large(c):
    """85 million parameters and larger mazes, for a v5p-8 (v5p:2x2x1)."""
    c.architecture.width, c.architecture.layers = 768, 12
    c.architecture.heads, c.architecture.ff = 12, 2048
    c.task.maze.size = 7
    c.task.operands, c.task.problems = 4, 512
    c.training.batch, c.training.sequence = 256, 320
    c.training.microbatch = 64
    c.training.learning_rate = 6e-4
    c.policy.steps, c.policy.prompts, c.policy.rollouts = 100, 128, 8
    c.policy.microbatch, c.policy.learning_rate = 64, 3e-5
    c.policy.length_buckets = 2  # each is a program of its own in every update
    c.policy.max_new_tokens = c.sampling.max_new_tokens = 288
    c.evaluation.samples = 16
