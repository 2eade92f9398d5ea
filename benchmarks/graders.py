"""Graders side by side on the audit set: fr, math-verify, lm-evaluation-harness.

    python -m benchmarks.graders

Grades `tests/audit/completions.jsonl` with each grader that can be imported here, and
writes the counts to docs/results/data/answers.json, from which docs/generate/render.py
fills the table of docs/results/answers.md. Graders whose package is missing keep the
figures of an earlier run, because lm-eval needs another antlr4 than
fr: run the file again in an environment with `pip install "lm-eval[math]" absl-py`.
    Each grader gets only the kinds that it is made for, called as its own documentation
    or task file calls it.
"""

import collections
import json
import pathlib
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # fr, and the audit set's loader

import audit_set  # noqa: E402

DATA = ROOT / "docs/results/data/answers.json"

NUMBERS = ("sums", "gcd", "letters", "word_problems", "gsm8k")
KINDS = (
    *NUMBERS,
    "questions: numbers",
    "questions: LaTeX",
    "questions: words",
    "math500",
    "cruxeval",
    "gpqa",
)
KINDS += ("countdown", "reasoning_gym")
MATH = (*NUMBERS, "questions: numbers", "questions: LaTeX", "math500")


class _Grader(NamedTuple):
    """A grader under audit."""

    package: str
    kinds: tuple[str, ...]
    grade: Callable[[dict], str]


def kind(record: dict) -> str:
    """Name the row of the table that a record belongs to.

    Args:
        record: a record of the audit set.

    Returns:
        The task's name; `questions` is split by the kind of the reference.
    """
    task, reference = record["task"], record["reference"]
    if task == "questions":
        number = re.fullmatch(r"-?[\d./]+", reference)
        return "questions: " + (
            "numbers" if number else "LaTeX" if "\\" in reference else "words"
        )
    return task.partition(":")[0]


def _math_verify_grade(record: dict) -> str:
    """Parse the gold answer, parse the completion, verify in that order."""
    from math_verify import StringExtractionConfig, parse, verify

    if kind(record) == "gpqa":
        letters = (StringExtractionConfig(strings=("A", "B", "C", "D")),)
        gold, answer = (
            parse(record["reference"], letters),
            parse(record["completion"], letters),
        )
    else:
        gold, answer = parse(f"${record['reference']}$"), parse(record["completion"])
    if not answer:
        return "unparsed"
    return "right" if verify(gold, answer) else "wrong"


def gsm8k(pattern: str, group: int = 0) -> Callable[[dict], str]:
    """Make a grader of the filter of gsm8k.yaml, its stop strings and its exact match.

    Args:
        pattern: regular expression of the answer.
        group: index of the match that counts.

    Returns:
        The grader of a record.
    """

    def grade(record: dict) -> str:
        from lm_eval.api.metrics import exact_match_hf_evaluate
        from lm_eval.filters.extraction import RegexFilter

        text = _until(record["completion"], ("Question:", "</s>", "<|im_end|>"))
        [[found]] = RegexFilter(pattern, group_select=group).apply([[text]], [{}])
        if found == "[invalid]":
            return "unparsed"
        ignored = [",", r"\$", "(?s).*#### ", r"\.$"]
        score = exact_match_hf_evaluate(
            [found], [record["reference"]], ignored, ignore_case=True
        )
        return "right" if score["exact_match"] else "wrong"

    return grade


def _minerva(record: dict) -> str:
    """minerva_math: `Final Answer: ...`, its normalisation, its is_equiv."""
    from lm_eval.tasks.minerva_math import utils

    found = utils.get_unnormalized_answer(_until(record["completion"], ("Problem:",)))
    if found == "[invalidanswer]":
        return "unparsed"
    sides = (
        utils.normalize_final_answer(text) for text in (found, record["reference"])
    )
    return "right" if utils.is_equiv(*sides) else "wrong"


def _hendrycks(record: dict) -> str:
    """hendrycks_math: the text between the first and the last dollar sign."""
    from lm_eval.tasks.hendrycks_math import utils

    doc = {"solution": f"\\boxed{{{record['reference']}}}"}
    result = utils.process_results(doc, [_until(record["completion"], ("Problem:",))])
    return "right" if result["exact_match"] else "wrong"


def boxed(record: dict) -> str:
    """Grade the last box (last_boxed_only_string) by hendrycks_math's is_equiv.

    Args:
        record: a record of the audit set.

    Returns:
        right, wrong or unparsed.
    """
    from lm_eval.tasks.hendrycks_math import utils

    found = utils.last_boxed_only_string(_until(record["completion"], ("Problem:",)))
    try:
        answer = None if found is None else utils.remove_boxed(found)
    except AssertionError:  # what it says of \fbox
        answer = None
    if answer is None:
        return "unparsed"
    return "right" if utils.is_equiv(answer, record["reference"]) else "wrong"


def _gpqa_strict(record: dict) -> str:
    """The strict filter of gpqa's cot_zeroshot task, case and punctuation ignored."""
    from lm_eval.filters.extraction import RegexFilter

    [[found]] = RegexFilter("(?<=The answer is )(.*)(?=.)").apply(
        [[record["completion"]]], [{}]
    )
    return _same_letter(found, record["reference"])


def _gpqa_flexible(record: dict) -> str:
    """The flexible filter of gpqa's cot_zeroshot task."""
    from lm_eval.filters.extraction import MultiChoiceRegexFilter

    options = re.findall(r"^[A-D]\) (.*)$", record["question"], re.MULTILINE)
    pattern = MultiChoiceRegexFilter(
        r"(\([A-Z]\))", -1, ignore_case=True, ignore_punctuation=True
    )
    [[found]] = pattern.apply([[record["completion"]]], [{"choices": options}])
    return _same_letter(found, record["reference"])


def _same_letter(found: str, reference: str) -> str:
    """lm-eval's exact match, case and punctuation ignored; the target is `(C)`."""
    from lm_eval.api.metrics import exact_match_hf_evaluate

    if found == "[invalid]":
        return "unparsed"
    score = exact_match_hf_evaluate(
        [found], [f"({reference})"], ignore_case=True, ignore_punctuation=True
    )
    return "right" if score["exact_match"] else "wrong"


def _until(text: str, stops: tuple[str, ...]) -> str:
    """The text before the first stop string, where the harness ends generation."""
    return text[
        : min((at for at in map(text.find, stops) if at >= 0), default=len(text))
    ]


_LM = "lm_eval"
GRADERS = {
    "fr": _Grader("fr", KINDS, audit_set.grade),
    "math-verify": _Grader("math-verify", (*MATH, "gpqa"), _math_verify_grade),
    "lm-eval gsm8k, strict": _Grader(_LM, ("gsm8k",), gsm8k(r"#### (\-?[0-9\.\,]+)")),
    "lm-eval gsm8k, flexible": _Grader(
        _LM, NUMBERS, gsm8k(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1)
    ),
    "lm-eval minerva_math": _Grader(_LM, ("math500",), _minerva),
    "lm-eval hendrycks_math": _Grader(_LM, ("math500",), _hendrycks),
    "lm-eval last box, hendrycks is_equiv": _Grader(_LM, ("math500",), boxed),
    "lm-eval gpqa, strict": _Grader(_LM, ("gpqa",), _gpqa_strict),
    "lm-eval gpqa, flexible": _Grader(_LM, ("gpqa",), _gpqa_flexible),
}


def count(grader: _Grader, records: list[dict]) -> dict[str, dict[str, int]]:
    """Count a grader's errors by kind of record.

    Args:
        grader: the grader.
        records: the audit set.

    Returns: kind -> counts: right, not_right, readable, and the errors false_right,
        false_wrong, unparsed and wrong_unparsed.
    """
    table = {name: collections.Counter() for name in grader.kinds}
    for record in records:
        if kind(record) not in table:
            continue
        counts, truth, got = table[kind(record)], record["grade"], grader.grade(record)
        counts["right" if truth == "right" else "not_right"] += 1
        counts["readable"] += truth in ("right", "wrong")
        counts["false_right"] += got == "right" != truth
        counts["false_wrong"] += truth == "right" and got == "wrong"
        counts["unparsed"] += truth == "right" and got not in ("right", "wrong")
        counts["wrong_unparsed"] += truth == "wrong" and got not in ("right", "wrong")
    return {name: dict(counts) for name, counts in table.items()}


def _available(package: str) -> str | None:
    """The installed version of a grader's package, or None."""
    try:
        if package == "fr":
            audit_set.grader("sums")
            return "this commit"
        return version(package)
    except ImportError:
        return None


def main() -> None:
    """Grade and store the counts."""
    records = audit_set.load()
    data = json.loads(DATA.read_text()) if DATA.exists() else {"graders": {}}
    grades = collections.Counter(record["grade"] for record in records)
    data["records"], data["grades"] = len(records), dict(sorted(grades.items()))
    for name, grader in GRADERS.items():
        if installed := _available(grader.package):
            print(name, installed, flush=True)
            data["graders"][name] = {
                "version": installed,
                "kinds": count(grader, records),
            }
    # Today's figures first, then the kept ones of earlier commits.
    order = [*GRADERS, *(name for name in data["graders"] if name not in GRADERS)]
    data["graders"] = {
        name: data["graders"][name] for name in order if name in data["graders"]
    }
    DATA.parent.mkdir(parents=True, exist_ok=True)
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    print("python docs/generate/render.py fills the table of docs/results/answers.md")


if __name__ == "__main__":
    main()
