"""`python -m ferlab ui`: MLflow's page over all runs, with a link that shows the scores at once.

The page is one process, without MLflow's job runners: on two idle cores it answers within 10
seconds (four workers and the runners took 28 seconds of processor time and 2.6 GB, this takes 7
and 0.25 GB). While it starts, runs that are missing are added.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from ferlab import files
from ferlab.progress import counted
from ferlab.tracking import search, store, sync
from ferlab.tracking.store.address import answers

HOST = "127.0.0.1"
VIEW = "ferlab"  # the name of the view that the links show
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONWARNINGS": "ignore",
}


def serve(port, report=print):
    """Serve MLflow's page on this machine until Ctrl-C, and add the runs that are missing.

    Where MLFLOW_TRACKING_URI is a server, that has the page: only its links are reported. Raises
    UserError where the store cannot be used, or the port is taken.
    """
    place = store.ready()
    if place.startswith("http"):
        if not answers(place):
            raise store.Trouble(f"MLFLOW_TRACKING_URI={place}: nobody answers", store.NO_SERVER)
        _complete(f"{place.rstrip('/')}/", report)
        return
    with contextlib.closing(socket.socket()) as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind((HOST, port))
            port = free.getsockname()[1]  # of 0, which asks for any that is free
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "no port from 0 to 65535"
            raise files.UserError(
                f"{HOST}:{port}: {reason}; take another: python -m ferlab ui --port 5001"
            ) from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = _start(place, port)
    try:
        _complete(f"http://{HOST}:{port}/", report, server)
        if server.wait():
            raise files.UserError(f"mlflow ui ended with exit code {server.returncode}")
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _start(place, port):
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1"]
    command += ["--host", HOST, "--port", str(port), "--uvicorn-opts", "--log-level=warning"]
    # the address may hold a password: not where every user of the machine reads it
    variables = ENVIRONMENT | {"MLFLOW_BACKEND_STORE_URI": place}
    return subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL)


def _complete(top, report, server=None):
    """Report the links once the page at `top` answers, and meanwhile give every result its run."""
    shown = []
    with sync.best_effort(report=report):
        shown = links(top)
    waiting = threading.Thread(target=_announce, args=(top, server, shown, report))
    waiting.start()
    with sync.best_effort(report=report):
        count = sync.sync(report)
        waiting.join()
        report(f"{counted(count, 'result')} in MLflow")
        for line in links(top):
            if line not in shown:
                report(line)


def _announce(top, server, shown, report):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine
    while server and server.poll() is None:
        with contextlib.suppress(OSError), direct.open(f"{top}health", timeout=5):
            break
        time.sleep(0.1)
    if not server or server.poll() is None:
        for line in shown or [top]:
            report(line)


def links(top):
    """A line for each of ferlab's experiments, that of the workspace's dataset first: the address
    of its runs with their scores as columns, the best run first.
    """
    with store.store() as client:
        first = _dataset()
        if first:
            search.experiment_of(client, first)
        experiments = [
            one for one in client.search_experiments() if one.name.startswith(search.EXPERIMENT)
        ]
        experiments.sort(key=lambda one: (one.name != f"{search.EXPERIMENT}{first}", one.name))
        for one in experiments:
            _set_view(client, one)
    return [
        f"{one.name}: {top}#/experiments/{one.experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={VIEW}"
        for one in experiments
    ]


def _dataset():
    """The name of the dataset of the workspace's result, None before there is one."""
    with contextlib.suppress(OSError, ValueError, KeyError, files.UserError):
        return files.read_json(files.root() / "reports/details.json")["dataset"].split()[0]
    return None


def _set_view(client, experiment):
    """Let the experiment's page have our columns: MLflow keeps a view in a tag of the experiment,
    and shows the one that the address names.
    """
    runs = client.search_runs([experiment.experiment_id], max_results=50)
    final = "private"
    if runs and not any("private/accuracy" in run.data.metrics for run in runs):
        final = "test"
    names = [f"metrics.`{final}/{score}`" for score in ("accuracy", "f1_macro", "disgust_recall")]
    view = {"orderByKey": names[0], "orderByAsc": False, "selectedColumns": names}
    key, text = f"mlflow.sharedViewState.{VIEW}", json.dumps(view)
    if experiment.tags.get(key) != text:
        client.set_experiment_tag(experiment.experiment_id, key, text)
