"""Jobs: photographs, protected; whatever ends a run, the same command goes on.

Sources, engines, shards, locks and the private records stand here; decoding and the attack do not.
"""
