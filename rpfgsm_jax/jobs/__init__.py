"""Jobs: photographs, protected; whatever ends a run, the same command goes on.

Sources, engines, shards, locks and the private records stand here; decoding and the attack do not.
"""

from rpfgsm_jax.jobs.errors import JobError, SettingsError
from rpfgsm_jax.jobs.job import open_job
from rpfgsm_jax.jobs.order import Job
from rpfgsm_jax.jobs.plan import Shard
from rpfgsm_jax.jobs.preview import Preview, preview
from rpfgsm_jax.jobs.running import RunningJob
from rpfgsm_jax.jobs.summary import Summary

__all__ = [
  "Job",
  "JobError",
  "Preview",
  "RunningJob",
  "SettingsError",
  "Shard",
  "Summary",
  "open_job",
  "preview",
]
