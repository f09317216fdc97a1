"""Settings of the synthetic generator."""

import dataclasses

from tfmeta.config import require

_SHARES = ("cluster_share", "taste_share", "user_bias_share", "item_bias_share")


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """How many users and items there are and what a rating is made of.

    The variance of a rating is `rating_std ** 2`, cut into shares: taste that a user's cluster explains, the
    user's own taste, the user's and the item's bias; what is left is noise that nothing can predict.

    Attributes:
      users, items: their numbers.
      ratings_per_user: mean number of ratings; each user has at least 20, or all items.
      clusters: number of taste clusters.
      dimensions: of the latent tastes.
      rating_mean, rating_std: of the ratings, in rating units; the default deviation is 1 if rounded, else
      0.6.
      cluster_share, taste_share, user_bias_share, item_bias_share: shares of the variance; together below 1.
      item_bias_in_content: share of the item bias's variance that the price feature explains.
      popularity_exponent: an item's popularity is its rank to the power of minus this.
      user_feature_information: probability that a user feature tells of the cluster; otherwise it is random.
      rounded: round ratings to 1, 2, 3, 4, 5. The expectation given all latent parameters stays exact; the
        fold-in from a support then takes rounding for a little more noise and is an approximation.
      seed: of all draws.
    """

    users: int = 2000
    items: int = 800
    ratings_per_user: float = 60.0
    clusters: int = 6
    dimensions: int = 6
    rating_mean: float = 3.0
    rating_std: float | None = None
    cluster_share: float = 0.15
    taste_share: float = 0.40
    user_bias_share: float = 0.10
    item_bias_share: float = 0.10
    item_bias_in_content: float = 0.5
    popularity_exponent: float = 0.8
    user_feature_information: float = 0.4
    rounded: bool = False
    seed: int = 0

    def __post_init__(self):
        if self.rating_std is None:
            object.__setattr__(self, "rating_std", 1.0 if self.rounded else 0.6)
        for name, least in (("users", 1), ("items", 1), ("clusters", 1), ("dimensions", 2)):
            require(getattr(self, name) >= least, name, f"at least {least}", getattr(self, name))
        require(self.ratings_per_user >= 1, "ratings_per_user", "at least 1", self.ratings_per_user)
        require(2.0 <= self.rating_mean <= 4.0, "rating_mean", "2 to 4", self.rating_mean)
        require(0 < self.rating_std <= 1.5, "rating_std", "more than 0 and at most 1.5", self.rating_std)
        for name in (*_SHARES, "item_bias_in_content", "user_feature_information"):
            require(0 <= getattr(self, name) <= 1, name, "0 to 1", getattr(self, name))
        require(self.noise_share > 1e-6, "cluster_share", "shares that add up to less than 1, the rest being noise",
                round(1 - self.noise_share, 6))
        require(0 <= self.popularity_exponent <= 3, "popularity_exponent", "0 to 3", self.popularity_exponent)
        require(self.seed >= 0, "seed", "a whole number of at least 0", self.seed)

    @property
    def noise_share(self) -> float:
        """Share of the variance that nothing can predict."""
        return 1.0 - sum(getattr(self, s) for s in _SHARES)

    def std(self, part: str) -> float:
        """Returns the standard deviation of `cluster`, `taste`, `user_bias`, `item_bias` or `noise`, in
        ratings.
        """
        return self.rating_std * getattr(self, f"{part}_share") ** 0.5
