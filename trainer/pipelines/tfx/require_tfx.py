"""Whether TFX can be imported."""

from tfmeta.errors import ConfigError


def require_tfx() -> None:
    """Raises ConfigError unless TFX and what its Trainer wants are there."""
    try:
        import tfx.components.trainer.component
        import tfx.orchestration.pipeline  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"The TFX pipeline requires TFX in an environment of its own ({error}). Make one with: "
                          "make tfx-env; docs/pipelines.md says more.") from None
