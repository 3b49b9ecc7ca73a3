"""How fast extraction is on this machine, against three yardsticks; see ``splinellm bench``."""
