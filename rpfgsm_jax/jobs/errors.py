"""What can stop a job: an order that cannot be followed, or a world that does not let it go on."""


class SettingsError(ValueError):
  """The job was asked for wrongly; the message names the option, the rule and the remedy."""


class JobError(RuntimeError):
  """The job cannot start or go on; the message says why. The same command goes on later."""
