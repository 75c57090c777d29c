"""Jobs: a folder of photographs, protected; whatever ends a run, the same command goes on.

Engines, shards, locks and the private record stand here; decoding and the attack do not.
"""

from rpfgsm_jax.jobs.errors import JobError, SettingsError
from rpfgsm_jax.jobs.job import Job, RunningJob, open_job
from rpfgsm_jax.jobs.plan import Shard
from rpfgsm_jax.jobs.summary import Summary

__all__ = ["Job", "JobError", "RunningJob", "SettingsError", "Shard", "Summary", "open_job"]
