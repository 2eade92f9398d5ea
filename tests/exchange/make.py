"""Write the files of this folder with the tools themselves; their versions are in the
names.

    python tests/exchange/make.py inspect|openai|trl|prime

Each needs its own package: inspect_ai 0.3.285, openai 3.57.0, trl 1.16.0 (with torch),
verifiers 0.4.0. The problems are the first two of the task `countdown`.
"""

import os
import pathlib
import shutil
import sys
import tempfile
import types

HERE = pathlib.Path(__file__).parent
QUESTIONS = {
    "countdown-2-6-7-to-84": ("2 6 7 -> 84 :", "( 6 * 2 ) * 7"),
    "countdown-5-5-5-to-5": ("5 5 5 -> 5 :", "( 5 * 5 ) / 5"),
}
# problem, completion, whether it ended by itself
ROLLOUTS = [
    ("countdown-2-6-7-to-84", "answer ( 6 * 2 ) * 7", True),
    ("countdown-2-6-7-to-84", "2 + 6 = 8 , answer 2 + 6", True),
    ("countdown-5-5-5-to-5", "5 + 5 = 10 , 10 +", False),
    ("countdown-5-5-5-to-5", "answer 5 + 5", True),
]


def logps(text):
    """(token, log-prob) of every word: -1/8, -2/8, ..."""
    words = text.split(" ")
    tokens = [words[0], *(f" {word}" for word in words[1:])]
    return [(token, -(place + 1) / 8) for place, token in enumerate(tokens)]


def make_inspect():
    """Two epochs of two samples, as an archive and as JSON."""
    from inspect_ai import Task, eval, model, scorer, solver
    from inspect_ai.dataset import MemoryDataset, Sample

    def output(text, ended):
        content = [
            model.Logprob(token=t, logprob=v, bytes=list(t.encode()))
            for t, v in logps(text)
        ]
        choice = model.ChatCompletionChoice(
            message=model.ChatMessageAssistant(content=text, source="generate"),
            stop_reason="stop" if ended else "max_tokens",
            logprobs=model.Logprobs(content=content),
        )
        usage = model.ModelUsage(input_tokens=6, output_tokens=9, total_tokens=15)
        return model.ModelOutput(model="mock", choices=[choice], usage=usage)

    samples = [
        Sample(id=name, input=question, target=answer)
        for name, (question, answer) in QUESTIONS.items()
    ]
    data = MemoryDataset(samples)
    task = Task(dataset=data, solver=solver.generate(), scorer=scorer.includes())
    in_order = [ROLLOUTS[i] for i in (0, 2, 1, 3)]
    for form in ("eval", "json"):
        outputs = [output(text, ended) for _, text, ended in in_order]
        mock = model.get_model("mockllm/model", custom_outputs=outputs)
        with tempfile.TemporaryDirectory() as folder:
            kept = {"logprobs": True, "temperature": 0.6, "max_connections": 1}
            eval(
                task,
                model=mock,
                epochs=2,
                log_dir=folder,
                log_format=form,
                display="none",
                **kept,
            )
            (log,) = pathlib.Path(folder).iterdir()
            shutil.copy(log, HERE / f"inspect-0.3.285.{form}")


def make_openai():
    """Chat completions of a server, one per rollout, with a batch's line around it."""
    import json

    from openai.types.chat import ChatCompletion

    with open(HERE / "openai-3.57.0.jsonl", "w") as file:
        for place, (name, text, ended) in enumerate(ROLLOUTS):
            tokens = [
                {"token": t, "logprob": v, "bytes": list(t.encode())}
                | {"top_logprobs": []}
                for t, v in logps(text)
            ]
            answer = ChatCompletion.model_validate(
                {
                    "id": f"chatcmpl-{place}",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "served",
                    "choices": [
                        {
                            "index": 0,
                            "finish_reason": "stop" if ended else "length",
                            "message": {"role": "assistant", "content": text},
                            "logprobs": {"content": tokens},
                        }
                    ],
                },
                strict=True,
            )
            body = answer.model_dump(mode="json", exclude_unset=True)
            response = {"status_code": 200, "request_id": "r", "body": body}
            line = {"id": f"batch_{place}", "custom_id": name, "error": None}
            file.write(json.dumps(line | {"response": response}) + "\n")


def make_trl():
    """The table that GRPOTrainer.log writes; the trainer itself does not train."""
    from transformers import TrainerControl, TrainerState
    from trl.trainer.grpo_trainer import GRPOTrainer

    trainer = GRPOTrainer.__new__(GRPOTrainer)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/completions")
        trainer.model = types.SimpleNamespace(training=True)
        trainer._metrics = {"train": {}}
        trainer.state, trainer.control = TrainerState(global_step=5), TrainerControl()
        trainer.args = types.SimpleNamespace(
            output_dir=folder, report_to=[], include_num_input_tokens_seen="no"
        )
        trainer.accelerator = types.SimpleNamespace(is_main_process=True)
        trainer.log_completions, trainer.num_completions_to_print = True, 0
        trainer.log_unique_prompts = False
        trainer.callback_handler = types.SimpleNamespace(
            on_log=lambda args, state, control, logs: control
        )
        asked = [QUESTIONS[name] for name, _, _ in ROLLOUTS]
        reply = lambda text: [{"role": "assistant", "content": text}]
        trainer._logs = {
            "prompt": [[{"role": "user", "content": q}] for q, _ in asked],
            "completion": [reply(text) for _, text, _ in ROLLOUTS],
            "rewards": {"accuracy": [1.0, 0.0, 0.0, 0.0], "format": [0.1] * 4},
            "advantages": [1.5, -0.5, -0.5, -0.5],
            "extra": {"answer": [answer for _, answer in asked]},
            "images": [],
        }
        trainer.log({"loss": 0.0})
        (table,) = pathlib.Path(folder, "completions").iterdir()
        shutil.copy(table, HERE / "trl-1.16.0.parquet")


def make_prime():
    """Traces of verifiers with token ids, as prime-rl's orchestrator saves them."""
    import json
    from unittest import mock

    # These start machines, and need much that a trace does not.
    for name in ("", ".models", ".core"):
        sys.modules[f"prime_sandboxes{name}"] = mock.MagicMock()
    for name in ("prime_tunnel", "prime_runs"):
        sys.modules[name] = mock.MagicMock()

    from verifiers.v1.graph import MessageNode
    from verifiers.v1.trace import EXCLUDE_FIELDS, AgentInfo, Trace, TraceTask
    from verifiers.v1.types import AssistantMessage, UserMessage

    ids = {"answer": 16, "=": 7, "+": 3, "*": 5, "(": 8, ")": 9, ",": 12, "/": 6}
    number = lambda word: ids.get(word, 17 + int(word) if word.isdigit() else 0)
    prompts = {
        "countdown-2-6-7-to-84": [19, 23, 24, 10, 101, 11],
        "countdown-5-5-5-to-5": [22, 22, 22, 10, 22, 11],
    }
    with open(HERE / "verifiers-0.4.0.jsonl", "w") as file:
        for place, (name, text, ended) in enumerate(ROLLOUTS):
            question, answer = QUESTIONS[name]
            tokens = [number(word) for word in text.split()] + [1] * ended
            values = [-(i + 1) / 8 for i in range(len(tokens))]
            nodes = [
                MessageNode(
                    message=UserMessage(content=question),
                    token_ids=prompts[name][:-1],
                    mask=[False] * 5,
                ),
                MessageNode(
                    parent=0,
                    message=AssistantMessage(content=text),
                    sampled=True,
                    token_ids=[prompts[name][-1], *tokens],
                    mask=[False] + [True] * len(tokens),
                    logprobs=values,
                ),
            ]
            data = {"id": name, "prompt": question, "answer": answer}
            trace = Trace.model_construct(
                id=f"trace-{place}",
                task=TraceTask.model_construct(type="Countdown", data=data),
                agent=AgentInfo.model_construct(config={}),
                nodes=nodes,
                is_completed=True,
                ok=True,
            )
            record = trace.model_dump(mode="json", exclude=EXCLUDE_FIELDS)
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    {
        "inspect": make_inspect,
        "openai": make_openai,
        "trl": make_trl,
        "prime": make_prime,
    }[sys.argv[1]]()
