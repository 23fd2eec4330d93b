"""The project's torture: break everything that can break, over and over, and count what was lost.

``make torture`` runs all rows of the table at full length; ``TORTURE_RUNS=0.1`` a tenth of it. ``TORTURE_SEED`` repeats
a run, ``TORTURE_ONLY="restore beside:17"`` one attempt of one row of it. What each row does stands at the head of its
module; ``tests/integration/test_torture.py`` runs a short form of the same.
"""
