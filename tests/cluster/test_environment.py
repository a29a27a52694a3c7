"""The workers of a run, from `TF_CONFIG` and from Slurm's variables."""

import json

import pytest

from tfdet.cluster.environment import expand_counts, expand_nodes, find_cluster
from tfdet.errors import UserError


def tf_config(cluster, job, index, **more):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})} | more


def slurm(rank, nodes="node[9-10]", tasks="2,1", count="3", **more):
    step = {"STEP_NUM_TASKS": count, "STEP_NODELIST": nodes, "STEP_TASKS_PER_NODE": tasks, "JOB_ID": "501"}
    return {f"SLURM_{name}": value for name, value in ({"PROCID": str(rank)} | step | more).items()}


def test_the_chief_is_worker_0():
    jobs = {"worker": ["b:2222", "c:2222"], "chief": ["a:2222"], "evaluator": ["d:2222"]}
    found = [find_cluster(tf_config(jobs, *task)) for task in [("chief", 0), ("worker", 0), ("worker", 1)]]
    assert [cluster.number for cluster in found] == [0, 1, 2]
    assert found[2].addresses == ("a:2222", "b:2222", "c:2222") and found[2].control_port == 3222
    assert found[1].name(2) == "worker 2 (c:2222)"
    # As some launchers write a task; a port above which there is no room; a port of one's own.
    high = find_cluster(tf_config({"worker": ["a:65000", "b:1"]}, "worker", "1"))
    assert high.number == 1 and high.control_port == 64000
    assert find_cluster(tf_config(jobs, "chief", 0, TFDET_CONTROL_PORT="7000")).control_port == 7000


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"TF_CONFIG": "{}"},
        {"TF_CONFIG": '{"environment": "cloud"}'},
        tf_config({"chief": ["127.0.0.1:2222"]}, "chief", 0),  # as Vertex AI sets it for a single machine
        tf_config({"worker": ["a:1", "b:1"]}, "worker", 0, TFDET_CLUSTER="none"),
        slurm(0, "node1", "1", "1"),
        {"SLURM_PROCID": "0", "SLURM_JOB_ID": "3"},  # a batch script outside of srun
    ],
)
def test_a_process_that_trains_alone(variables):
    assert find_cluster(variables) is None


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"TF_CONFIG": "{"}, "is no JSON of a cluster"),
        ({"TF_CONFIG": '{"cluster": {"worker": "a:1"}}'}, "the tasks of a job are a list"),
        (tf_config({"worker": ["a", "b:1"]}, "worker", 0), "'a' is no address host:port"),
        (tf_config({"worker": ["a:0", "b:1"]}, "worker", 0), "no port from 1"),
        (tf_config({"worker": ["a:1", "a:1"]}, "worker", 0), "names the address a:1 twice"),
        (tf_config({"worker": ["a:1", "b:1"]}, "worker", 2), "no task of its cluster as its own"),
        (tf_config({"worker": ["a:1", "b:1"]}, None, None), "no task of its cluster as its own"),
        (tf_config({"worker": ["a:1", "b:1"]}, "evaluator", 0), "start workers alone"),
        (tf_config({"worker": ["a:1"], "ps": ["b:1"]}, "worker", 0), "job 'ps'"),
        (tf_config({"worker": ["a:1", "b:1"]}, "worker", 0, TFDET_CONTROL_PORT="x"), "TFDET_CONTROL_PORT = 'x'"),
        ({"TFDET_CLUSTER": "off"}, "none trains alone"),
        (slurm(0, "node[1-"), "Slurm's variables cannot be read"),
        (slurm(0, tasks="2,2"), "do not fit together"),
        (slurm(3), "do not fit together"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(variables, message):
    with pytest.raises(UserError, match=message) as refused:
        find_cluster(variables)
    assert "\n" not in str(refused.value)


def test_slurm_numbers_tasks_node_by_node():
    found = [find_cluster(slurm(rank)) for rank in range(3)]
    first = 20000 + 1 * 64
    # node9 before node10: as Slurm has them, not by name.
    assert found[0].addresses == (f"node9:{first + 1}", f"node9:{first + 2}", f"node10:{first + 1}")
    assert [cluster.number for cluster in found] == [0, 1, 2] and found[0].control_port == first
    assert [cluster.local for cluster in found] == [(0, 2), (1, 2), (0, 1)]  # two share the GPUs of node9
    assert find_cluster(slurm(1, GPUS_PER_TASK="1")).local == (0, 1)  # Slurm shares them out itself


def test_slurms_lists():
    assert expand_nodes("a[1-3,07-08],gpu5,r[1-2]c[01-02]x") == [
        *("a1", "a2", "a3", "a07", "a08", "gpu5"),
        *("r1c01x", "r1c02x", "r2c01x", "r2c02x"),
    ]
    assert expand_counts("2(x3),1") == [2, 2, 2, 1]
