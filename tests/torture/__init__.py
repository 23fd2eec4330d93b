"""The project's torture: break everything that can break, over and over, and count what was lost.

``make torture`` runs all rows of the table at full length; ``TORTURE_RUNS=0.1`` a tenth of it. ``TORTURE_SEED``
repeats a run, ``TORTURE_ONLY="kill restore beside:17"`` one attempt of one row, ``…:0-17`` with those before it in the
same world. ``TORTURE_JOBS`` is the number of processes, ``TORTURE_OUT`` a page for the table (docs/torture.md after a
full run). What each row does stands at the head of its module; ``tests/integration/test_torture.py`` runs a short form.
"""
