"""From states and a score function to ranks and metrics; knows no model.

:func:`~reid.evaluation.single_shot.single_shot_cmc`, of the old CUHK03 protocol, is for use from Python: no experiment
asks for it.
"""
