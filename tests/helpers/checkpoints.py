"""Small models and checkpoint-only runs for the checkpoint tests."""

import logging

import torch
from torch import nn

from dl_lib.checkpoint import Checkpointer
from dl_lib.utils.run_files import numbered_checkpoint


def small_model(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, outputs, 1))


def equal_states(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Values:
    """Checkpointable that holds the given values."""

    def __init__(self, **values):
        self.values = values

    def state_dict(self):
        return self.values

    def load_state_dict(self, values):
        self.values = values


def save_run(folder, *iterations):
    """Save checkpoints of a run, each with a different model."""
    for iteration in iterations:
        Checkpointer(small_model(seed=iteration), folder).save(numbered_checkpoint(iteration), iteration=iteration)


def newest_iteration(folder):
    """Return the iteration that a run resumes from, after checking the weights."""
    model = small_model(seed=10_000)
    iteration = Checkpointer(model, folder).resume_or_load("")["iteration"]
    assert equal_states(model, small_model(seed=iteration))
    return iteration


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
