"""Templates of docs/pods: they run with programs that only record their arguments.

The commands of `fr` in them are read by the scripts themselves. The job of Kubernetes
is checked against a schema, and against the own schema of Kubernetes if its package is
there.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
PODS = ROOT / "docs" / "pods"
GIVEN = {"PROJECT": "p", "ZONE": "us-west4-a", "BUCKET": "b", "CLUSTER": "c"}
GIVEN |= {"IMAGE": "image", "QUESTIONS": "gs://b/q.jsonl", "WORKDIR": "gs://b/run"}
RECORD = """#!{python}
import json, pathlib, sys
with pathlib.Path({log!r}).open("a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
sys.exit("describe" in sys.argv)
"""


def recorded(script: str, tmp_path: pathlib.Path) -> list[list[str]]:
    """The programs that a template starts, with their arguments."""
    log = tmp_path / "log"
    for name in ("gcloud", "git", "xpk", "srun"):
        program = tmp_path / name
        program.write_text(RECORD.format(python=sys.executable, log=str(log)))
        program.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **GIVEN}
    words = [PODS / script]
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in log.read_text().splitlines()]


def command_of(text: str) -> list[str]:
    """The last script of ours in a line of the shell."""
    words = shlex.split(text.rpartition("&& ")[2])
    assert words[0].endswith("python") and (ROOT / words[1]).is_file(), words
    return words[1:]


def flag(words: list[str], name: str) -> str:
    (found,) = [w.partition("=")[2] for w in words if w.startswith(f"--{name}=")]
    return found


def check(commands: list[list[str]]) -> None:
    """The scripts parse the commands, load the configs and know all names."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    given, words = json.dumps(commands), [sys.executable, ROOT / "tests/check_flags.py"]
    done = subprocess.run(
        words, input=given, env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [""] * len(commands), done.stderr


def job() -> dict:
    return yaml.safe_load((PODS / "jobset.yaml").read_text())


def container(job: dict) -> dict:
    (slice_,) = job["spec"]["replicatedJobs"]
    (found,) = slice_["template"]["spec"]["template"]["spec"]["containers"]
    return found


def test_every_template_starts_a_run_that_the_scripts_accept(tmp_path):
    (tmp_path / "vm").mkdir(), (tmp_path / "xpk").mkdir(), (tmp_path / "slurm").mkdir()
    vm = recorded("tpu_vm.sh", tmp_path / "vm")
    xpk = recorded("xpk.sh", tmp_path / "xpk")
    (slurm,) = recorded("slurm.sbatch", tmp_path / "slurm")
    assert [words[0] for words in vm] == ["gcloud"] * 2 + ["git"] + ["gcloud"] * 3
    gcloud = [words for words in vm if words[0] == "gcloud"]
    verbs = [words[4] for words in gcloud]
    assert verbs == ["describe", "create", "scp", "ssh", "ssh"]
    for words in gcloud:
        assert {"--project=p", "--zone=us-west4-a"} <= set(words)
        assert words[1:4] == ["compute", "tpus", "tpu-vm"]
    assert all("--worker=all" in words for words in gcloud[2:])
    assert "uv pip install -q -e '.[tpu,gcs]'" in flag(gcloud[3], "command")
    assert len(xpk) == 1 and xpk[0][:4] == ["xpk", "workload", "create", "--project=p"]
    at = slurm.index(".venv/bin/python")
    commands = [
        command_of(flag(gcloud[4], "command")),
        command_of(flag(xpk[0], "command")),
        slurm[at + 1 :],
        container(job())["command"][1:],
    ]
    check(commands)
    for words in commands:
        assert flag(words, "processes") == "auto"
        assert flag(words, "workdir").startswith("gs://")
        assert flag(words, "config.task.path").startswith("gs://")


def test_a_template_names_the_variable_that_is_missing():
    for script in ("tpu_vm.sh", "xpk.sh", "slurm.sbatch"):
        words, env = [PODS / script], {"PATH": os.environ["PATH"]}
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        assert done.returncode and "parameter null or not set" in done.stderr


def test_the_lines_for_slurm_are_its_options():
    text = (PODS / "slurm.sbatch").read_text()
    lines = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE)
    assert len(lines) == text.count("#SBATCH")
    options = dict(lines)
    numbers = ("nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task")
    assert set(options) == {
        *numbers,
        *("job-name", "time", "requeue", "signal", "open-mode"),
    }
    assert all(options[name].isdigit() for name in numbers)
    # One process for each GPU, as jax joins the processes of a job of Slurm.
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert re.fullmatch(r"TERM@\d+", options["signal"])
    assert text.index("\n#SBATCH --job-name") < text.index("\nset -euo")


# --------------------------------------------------------------- Kubernetes


def thing(required: dict, optional: dict | None = None) -> dict:
    """The schema of an object that has no other keys."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": sorted(required),
        "additionalProperties": False,
    }


def many(item: dict) -> dict:
    return {"type": "array", "items": item, "minItems": 1}


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = thing(
    {
        "name": NAME,
        "image": TEXT,
        "command": many(TEXT),
        "env": many(thing({"name": TEXT, "value": TEXT})),
        "resources": thing({"limits": thing({"google.com/tpu": COUNT})}),
        "volumeMounts": many(thing({"name": NAME, "mountPath": TEXT})),
    }
)
POD = thing(
    {
        "restartPolicy": {"const": "Never"},
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": COUNT,
        "nodeSelector": TEXTS,
        "containers": many(CONTAINER),
        "volumes": many(thing({"name": NAME, "emptyDir": thing({})})),
    }
)
JOB = thing(
    {
        "parallelism": COUNT,
        "completions": COUNT,
        "backoffLimit": {"const": 0},
        "template": thing({"spec": POD}),
    }
)
JOBSET = thing(
    {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": thing({"name": NAME, "annotations": TEXTS}),
        "spec": thing(
            {
                "failurePolicy": thing({"maxRestarts": COUNT}),
                "replicatedJobs": many(
                    thing(
                        {
                            "name": NAME,
                            "replicas": COUNT,
                            "template": thing({"spec": JOB}),
                        }
                    )
                ),
            }
        ),
    }
)


def test_the_job_set_fits_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(JOBSET)
    jsonschema.validate(job(), JOBSET)
    wrong = job()
    container(wrong)["comand"] = container(wrong).pop("command")
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validate(wrong, JOBSET)


def test_the_job_set_has_the_hosts_and_chips_of_its_slice():
    (slice_,) = job()["spec"]["replicatedJobs"]
    spec = slice_["template"]["spec"]
    pod = spec["template"]["spec"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = container(job())["resources"]["limits"]["google.com/tpu"]
    rows, columns = map(int, topology.split("x"))
    assert spec["parallelism"] == spec["completions"]
    assert spec["parallelism"] * chips == rows * columns
    words = container(job())["command"]
    # The chips of a host share a sampler: no collective leaves the host.
    assert int(flag(words, "config.sampling.model_axis")) == chips
    mounts = {m["name"]: m["mountPath"] for m in container(job())["volumeMounts"]}
    assert {"name": "TMPDIR", "value": mounts["copies"]} in container(job())["env"]


def test_its_job_fits_the_schema_of_kubernetes():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for each in job()["spec"]["replicatedJobs"]:
        made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}}
        made["spec"] = each["template"]["spec"]
        kubernetes_validate.validate(made, "1.33", strict=True)
