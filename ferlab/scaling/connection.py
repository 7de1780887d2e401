"""Connecting to a Ray cluster: within seconds, or with an error of one line that names the fix."""

import contextlib
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from ferlab.files import UserError, one_line

PATIENCE = "8"  # seconds that the head node may take to answer; a node may join half of it late
THREAD_LIMITS = (  # environment variables that limit a training's processor threads
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",
)
TUNE = {  # what Ray Tune reads of the environment
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files of its own for each trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # a Ctrl-C is ours
    "TUNE_GLOBAL_CHECKPOINT_S": "2",  # so much at most is lost of its notes when a command dies
    "RAY_AIR_NEW_OUTPUT": "0",
}


def check_installed():
    """Raise UserError where the package ray is missing."""
    if not importlib.util.find_spec("ray"):
        raise UserError(
            "ray is not installed; pip install --require-hashes -r requirements-scale.txt"
        )


def patience():
    """PATIENCE, or FERLAB_PATIENCE: a machine that is very busy starts even Python slowly."""
    return count_of("FERLAB_PATIENCE", PATIENCE)


def count_of(variable, default):
    """The number from 1 that an environment variable holds; UserError where it holds another."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{variable}={text}: must be a number from 1")
    return int(text)


def connect(address, threads):
    """The package ray, connected to `address`: local, auto, or <host>:<port> of the head node.

    Workers get this checkout's ferlab, and `threads` processor threads each. Raises UserError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ |= TUNE
    # Ray's future behaviour, which it otherwise announces on every start
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray would look for its own node for a minute
    os.environ.setdefault("RAY_gcs_server_request_timeout_seconds", str(patience()))
    if address != "local":
        _check_head(address)
    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it starts again is no error
    environment = {
        "py_modules": [str(Path(__file__).parents[1])],
        "env_vars": dict.fromkeys(THREAD_LIMITS, str(threads)),
    }
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address, runtime_env=environment, log_to_driver=False, logging_level="ERROR", **options
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address == "local":
            raise UserError(f"Ray cannot be started here ({one_line(error)})") from None
        raise UserError(
            f"--address {address}: this machine is no node of that cluster ({one_line(error)}); "
            f"run here: ray start --address={address}"
        ) from None
    return ray


def wait_for_nodes(ray, nodes, threads, has_storage):
    """Wait until `nodes` have joined; UserError where they, their cores or a shared storage are
    missing.

    threads: the cores that one node at least must have. has_storage: whether --storage was given.
    """
    late = patience() / 2
    deadline = time.monotonic() + late
    while len(alive := living_nodes(ray)) < nodes:
        if time.monotonic() > deadline:
            raise UserError(
                f"--nodes {nodes}: {len(alive)} joined within {late:g} seconds; "
                "look at `ray status`, or ask for fewer"
            )
        time.sleep(0.2)
    most_cores = max(node["Resources"].get("CPU", 0) for node in alive)
    if most_cores < threads:
        raise UserError(
            f"--threads {threads} (FERLAB_THREADS for a stage): the largest node has "
            f"{most_cores:g} core(s); ask for fewer"
        )
    machines = {node["NodeManagerAddress"] for node in alive}
    if len(machines) > 1 and not has_storage:
        raise UserError(
            f"this cluster has {len(machines)} machines, which need one storage for checkpoints: "
            "--storage <a folder that all see, or s3://...> (FERLAB_STORAGE for a stage)"
        )


def living_nodes(ray):
    """Ray's descriptions of the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def _check_head(address):
    """Raise UserError where no head node answers: Ray tries for a minute, or ends this process."""
    if address != "auto":
        _check_port(address)
    command = [sys.executable, "-m", "ray.scripts.scripts", "status"]
    if address != "auto":
        command += ["--address", address]
    modes, deadline = [os.environ.get("RAY_AUTH_MODE")], time.monotonic() + patience()
    if not modes[0] and Path("~/.ray/auth_token").expanduser().exists():
        modes.append("token")  # `ray start --head` asks for the token by itself where there is one
    for mode in modes:
        environment = os.environ | ({"RAY_AUTH_MODE": mode} if mode else {})
        with contextlib.suppress(subprocess.TimeoutExpired):
            left = max(deadline - time.monotonic(), 0.1)
            status = subprocess.run(command, capture_output=True, env=environment, timeout=left)
            if not status.returncode:
                os.environ.update(environment)
                return
    raise UserError(
        f"--address {address}: no Ray cluster answers there, or it expects another token; "
        "start one: ray start --head"
    )


def _check_port(address):
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise UserError(
            f"--address {address}: must be local, auto or <host>:<port> of the head node"
        )
    try:
        socket.create_connection((host, int(port)), timeout=patience() / 2).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: nobody answers ({one_line(error)}); start it: ray start --head"
        ) from None
