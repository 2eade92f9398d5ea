r"""Read rollouts of another engine into --workdir, as if scripts/sample.py made them.

    python scripts/import.py --format=vllm --files=rollouts.jsonl \
        --config=configs/smollm2.py --workdir=/tmp/imported

Formats: vllm, openai, trl, verl, prime, inspect, and fr (what scripts/export.py
writes). The config names the model that was sampled and the task with the problems;
rollouts are matched to problems by the question in their prompt or by an id, and are
graded here. scripts/diagnose.py then prints first of all the engine's log-prob less
ours. With --write_questions the files' own questions and references become a file for
the task `questions`, and no model is needed.

Writes rollouts/*.parquet and import.json to --workdir.
"""

from absl import flags

from fr import cli

cli.define_flags()
flags.DEFINE_string(
    "format", None, "Tool that wrote them: vllm, openai, trl, verl, prime, inspect, fr."
)
flags.DEFINE_list("files", [], "Its files, in the order of sampling.")
flags.DEFINE_enum(
    "logprobs",
    "raw",
    ["raw", "processed"],
    "Its log-probs: of the raw policy, or after temperature, top-p and top-k.",
)
flags.DEFINE_string("engine_model", "", "Rollouts of this model of the files alone.")
flags.DEFINE_string(
    "write_questions", None, "Write the files' own questions here (.jsonl) and stop."
)


def main() -> None:
    """Import and print what was read, what was left out, and the grades."""
    given = flags.FLAGS
    if given.write_questions:
        cli.require(format=given.format, files=given.files or None)
        from fr.exchange.own_questions import write_questions

        count = write_questions(given.files, given.format, given.write_questions)
        said = "1 question is" if count == 1 else f"{count} questions are"
        print(f"{said} in {given.write_questions}")
        return
    config = cli.frozen_config()
    cli.require(format=given.format, files=given.files or None)
    from fr import distributed
    from fr.exchange.accepting import Asked
    from fr.exchange.importing import import_rollouts
    from fr.exchange.notes import shown
    from fr.pipeline.sample import summarise_rollouts
    from fr.report.render import render
    from fr.runs.run import read_run

    files = tuple(given.files)
    asked = Asked(files, given.format, given.logprobs, given.engine_model)
    asked.check()
    run = read_run(config, given.workdir)
    if found := import_rollouts(run, asked, given.redo):
        distributed.print0(shown("imported", found))
    distributed.print0(render("rollouts", summarise_rollouts(run)))


if __name__ == "__main__":
    cli.run(main)
