"""The choice of devices."""

import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.training.distribution import device_names, gpu_memory_peak, make_strategy


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


def test_several_machines_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(UserError, match="unset TF_CONFIG"):
        make_strategy()
