"""Golden cases: one module per signature, named like it, with `cases(requests: GoldenRequests) -> list[GoldenCase]`.

The expected answers come from another path than the exported graph: the recommender run eagerly, or numpy.
"""
