"""The verbosity that scripts set applies to the namespace's own logger."""

from __future__ import annotations

import logging

import pytest

from yoloqat.compat import absl_logging

LOGGER = logging.getLogger("pytorch_quantization")


@pytest.fixture(autouse=True)
def _level_kept():
    level = LOGGER.level
    yield
    LOGGER.setLevel(level)


@pytest.mark.parametrize("name", ["FATAL", "ERROR", "WARNING", "INFO", "DEBUG"])
def test_verbosity_is_a_level_of_the_logger(name: str):
    absl_logging.set_verbosity(getattr(absl_logging, name))
    assert LOGGER.level == getattr(logging, "CRITICAL" if name == "FATAL" else name)
    assert absl_logging.get_verbosity() == getattr(absl_logging, name)
    LOGGER.setLevel(logging.NOTSET)
    absl_logging.set_verbosity(name.lower())
    assert absl_logging.get_verbosity() == getattr(absl_logging, name)


def test_messages_go_to_pythons_logging(caplog: pytest.LogCaptureFixture):
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.WARNING)
    absl_logging.info("not this")
    absl_logging.warning("%d tensors", 3)
    absl_logging.log_first_n(absl_logging.ERROR, "%s first", 1, "at")
    assert caplog.messages == ["3 tensors", "at first"]


@pytest.mark.parametrize("verbosity", ["loud", 7])
def test_other_verbosities_are_refused(verbosity):
    with pytest.raises(ValueError, match=f"verbosity is {verbosity!r}"):
        absl_logging.set_verbosity(verbosity)
