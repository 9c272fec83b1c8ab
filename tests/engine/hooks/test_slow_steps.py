"""Warning about slow steps, with durations that the test gives."""

import pytest

from dl_lib.engine.hooks import Hook, SlowStepWarning
from tests.helpers.training import captured_log, plain_trainer


class Durations(Hook):
    """Records the given durations as those of the steps."""

    def __init__(self, durations):
        self._durations = iter(durations)

    def after_step(self, trainer):
        trainer.events.put({"iteration_seconds": next(self._durations), "data_seconds": 0.5})


def warnings_of(durations):
    trainer = plain_trainer(max_iter=len(durations), hooks=[Durations(durations), SlowStepWarning()])
    with captured_log("hooks.slow_steps") as messages:
        trainer.train()
    return messages


def test_one_warning_per_hundred_steps_with_times_and_load():
    usual = [1.0] * 50
    (message,) = warnings_of([*usual, 5.5, 6.0, *usual[:40]])
    assert message.startswith(
        "Slow step: 5.50 s (0.50 s of it waiting for data), 6 times the median of the last steps (1"
    )
    assert "Load average" in message and "CPU cores" in message
    assert len(warnings_of([*usual, 5.5, *usual, *usual, 5.5])) == 2


@pytest.mark.parametrize(
    "durations", [[1.0] * 30 + [4.9], [1.0] * 19 + [50.0], [9.0] + [1.0] * 30, [1.0] * 40 + [3.0] * 70 + [14.0]]
)
def test_usual_and_first_steps_are_not_reported(durations):
    assert warnings_of(durations) == []
