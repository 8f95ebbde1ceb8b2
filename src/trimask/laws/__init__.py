"""Laws fitted to tables of runs, with intervals, and refusals where a table cannot tell.

Needs numpy and scipy alone: anyone's table of runs can be fitted, whatever trained them.
"""
