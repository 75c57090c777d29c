"""Which share of a job is this process's, where many were started together."""

import os

import jax

from rpfgsm_jax.jobs.spec import JobError, SettingsError, Shard

_VARIABLES = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")  # beside JAX's own JAX_COORDINATOR_ADDRESS


def shard_of_this_process() -> Shard:
  """Joins the other processes for as long as it takes to know which one this is.

  JAX knows the clusters it can ask (TPU pods, Slurm, Open MPI, Kubernetes); elsewhere
  JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say it. Afterwards the processes
  have nothing to tell each other: one that dies or takes longer stops no other.
  """
  try:
    count, index = (int(os.environ[name]) if name in os.environ else None for name in _VARIABLES)
    jax.distributed.initialize(num_processes=count, process_id=index)
  except (TypeError, ValueError) as error:
    raise SettingsError(
      "--distributed must be started by a cluster that JAX knows, or with JAX_COORDINATOR_ADDRESS, "
      f"{' and '.join(_VARIABLES)} set; JAX says: {error} --shard I/N needs none of it."
    ) from error
  except RuntimeError as error:
    raise JobError(f"the processes of --distributed did not meet; JAX says: {error}") from error
  # Devices get to know their process now; later the others would be needed again.
  shard = Shard(jax.process_index(), jax.process_count())
  jax.distributed.shutdown()
  return shard
