"""Jobs: photographs, protected; whatever ends a run, the same command goes on.

Sources, engines, shards, locks and the private records stand here; decoding and the attack do not.
"""

from rpfgsm_jax.jobs.messages import Outcome, Summary
from rpfgsm_jax.jobs.run import Preview, RunningJob, open_job, preview
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError, Shard
from rpfgsm_jax.result_folder import FolderError

__all__ = [
  "FolderError",
  "Job",
  "JobError",
  "Outcome",
  "Preview",
  "RunningJob",
  "SettingsError",
  "Shard",
  "Summary",
  "open_job",
  "preview",
]
