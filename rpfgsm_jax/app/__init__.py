"""A page on the user's own machine that runs the jobs of `rpfgsm protect`; see `server.py`."""
