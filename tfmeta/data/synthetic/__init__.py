"""Synthetic data whose best achievable score is known."""
