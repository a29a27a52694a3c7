"""The choice of devices."""

import json

import pytest
import tensorflow as tf

from tfdet.cluster import Cluster
from tfdet.errors import UserError
from tfdet.training.distribution import count_replicas, device_names, gpu_memory_peak, make_strategy


def test_one_cpu_by_default():
    strategy = make_strategy()
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == 1
    assert device_names(strategy) == ["CPU:0"] and gpu_memory_peak(strategy) is None


def test_virtual_cpus():
    assert device_names(make_strategy(3)) == ["CPU:0", "CPU:1", "CPU:2"]


def test_more_replicas_than_devices():
    tf.config.list_logical_devices("CPU")  # TensorFlow runs: their number is fixed
    with pytest.raises(UserError, match="9 replicas asked for, but TensorFlow already runs with 8"):
        make_strategy(9)
    with pytest.raises(UserError, match="at least 1"):
        make_strategy(0)


def test_replicas_of_all_workers_count(monkeypatch):
    cluster = {"worker": ["a:1", "b:1", "c:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}}))
    assert (count_replicas(), count_replicas(4)) == (3, 12)


def test_what_a_worker_of_a_cluster_cannot_have():
    cluster = Cluster({"worker": ("a:1", "b:1")}, "worker", 1, 2)
    with pytest.raises(UserError, match="one replica on its CPU: set it to None, and start more workers"):
        make_strategy(2, cluster)
    with pytest.raises(UserError, match="has no GPU"):
        make_strategy(None, cluster, "nccl")
    tf.config.list_logical_devices("CPU")
    with pytest.raises(UserError, match="TensorFlow already runs and cannot join"):
        make_strategy(None, cluster)
