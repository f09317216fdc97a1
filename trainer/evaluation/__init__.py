"""Evaluation of learners against floors, tuned baselines and ceilings on fixed tasks."""
