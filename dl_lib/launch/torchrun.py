"""Rank information from torchrun, or any launcher that sets the same variables.

Source: "Environment Variables" in https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_lib.launch.process_info import LaunchError, ProcessInfo, master_endpoint, non_negative_int

__all__ = ["torchrun_process_info"]

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


def torchrun_process_info(environment: Mapping[str, str]) -> ProcessInfo | None:
    """Return the rank information set by torchrun, or None if none of the rank variables is set.

    The address variables alone do not indicate torchrun: cluster scripts set them for other purposes.

    Raises:
        LaunchError: If only some of the variables are set, or they hold invalid values.
    """
    if not any(name in environment for name in _RANKS):
        return None
    missing = [name for name in (*_RANKS, *_ADDRESS) if name not in environment]
    if missing:
        given = ", ".join(f"{name}={environment[name]!r}" for name in _RANKS if name in environment)
        raise LaunchError(
            f"{', '.join((*_RANKS, *_ADDRESS))} must be set together; missing: {', '.join(missing)}. Start the "
            f"processes with torchrun, which sets all of them, or unset the others. Received: {given}"
        )
    return ProcessInfo(
        "torchrun",
        rank=non_negative_int(environment, "RANK"),
        world_size=non_negative_int(environment, "WORLD_SIZE"),
        local_rank=non_negative_int(environment, "LOCAL_RANK"),
        **_rendezvous(environment),
    )


def _rendezvous(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return init method, host and attempt of the store.

    torchrun's agent may host the store and reuse it after a restart. Keys written by workers of an earlier attempt must
    not be read, or the new workers wait for processes that have exited. Without the agent's store, each attempt creates
    a new one.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {"init_method": "env://"}
    machines, max_restarts = (environment.get(name, "1") for name in ("GROUP_WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"))
    if machines != "1" and max_restarts != "0":  # each agent counts restarts separately
        raise LaunchError(
            "torchrun restarts on several machines would reuse a store that holds keys of the previous attempt; set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment on every machine, so that each attempt "
            "creates a new store, or use --max-restarts=0. "
            f"Received: GROUP_WORLD_SIZE={machines}, --max-restarts={max_restarts}"
        )
    return {
        "init_method": master_endpoint(*(environment[name] for name in _ADDRESS)),
        "is_hosted": True,
        "attempt": environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
    }
