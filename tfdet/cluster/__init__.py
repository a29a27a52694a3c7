"""Several processes that train one run: who they are, and what they say to each other beside TensorFlow's collectives.

environment    the workers, from `TF_CONFIG` or Slurm's variables
wire           messages on a socket
workers        `Workers`: what one process alone needs of the others, which is nothing
team           `Team`: the same for several processes
gate           at which step all of them stop
local          `launch`: the workers of one machine
code           which code a process runs
"""

from tfdet.cluster.environment import Cluster, cluster_size, find_cluster
from tfdet.cluster.team import Team
from tfdet.cluster.workers import Workers

__all__ = ["Cluster", "Team", "Workers", "cluster_size", "find_cluster"]
