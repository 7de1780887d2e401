"""The part of `python -m ferlab doctor` that asks servers: MLflow's, and DVC's remote.

Each check yields its troubles as (what, fix).
"""

import os

from ferlab.progress import counted
from ferlab.secrets import one_line
from ferlab.tracking import search, store
from ferlab.tracking.store.address import address, answers, database

SERVER_TIMEOUT = 3  # seconds that a server may take to answer
S3_ERRORS = {  # status: (what, fix)
    "404": ("there is no such bucket", "create it, or correct the address: dvc remote modify"),
    "403": (
        "access is refused",
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's rules",
    ),
}


def tracking():
    """MLflow's store cannot be used, or does not show what it should; see `_tracked`."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    try:
        place = address()
        file = database(place)
        if file and not file.exists():  # made with the first result
            return
        if not answers(place, SERVER_TIMEOUT):
            yield f"MLFLOW_TRACKING_URI={given}: nobody answers", store.NO_SERVER
            return
        with store.store() as client:
            yield from list(_tracked(client))
    except store.Trouble as error:
        is_circular = error.fix.endswith("ferlab doctor")
        yield (
            error.what,
            "look at the log of what answers there, or unset MLFLOW_TRACKING_URI"
            if is_circular
            else error.fix,
        )


def _tracked(client):
    """Runs whose processes have died, deleted experiments, a server that keeps no models."""
    from mlflow.exceptions import MlflowException

    names = [run.info.run_name for run in store.dead_runs(client)]
    if names:
        yield (
            f"MLflow shows {counted(len(names), 'run')} as running that no process is at any more "
            f"({', '.join(names[:3])})",
            "python -m ferlab sync marks them as killed",
        )
    for experiment in search.deleted_experiments(client):
        trouble = search.deleted(experiment)
        yield trouble.what, trouble.fix
    try:
        client.search_logged_models(experiment_ids=["0"], max_results=1)
    except MlflowException as error:
        yield (
            f"MLflow's server keeps no models ({one_line(error)}); "
            "they are among the files of their runs",
            "pip install 'mlflow>=3' where the server runs, and mlflow db upgrade <its database>",
        )


def remote():
    """Whether DVC's default remote can be used; of S3 also the credentials and the bucket."""
    from dvc.config import Config, ConfigError

    try:
        config = Config.from_cwd()
    except ConfigError as error:
        yield one_line(error, 200), "fix .dvc/config, or git checkout .dvc/config"
        return
    name = config["core"].get("remote")
    about = config["remote"].get(name, {})
    endpoint, url = about.get("endpointurl"), str(about.get("url", ""))
    if endpoint and not answers(endpoint, SERVER_TIMEOUT):
        yield (
            f"DVC's remote {name}: nobody answers at {endpoint}",
            f"start it, or dvc remote modify --local {name} endpointurl <address>",
        )
    elif url.startswith("s3://"):
        trouble = _s3(url.removeprefix("s3://").split("/")[0], about)
        if trouble:
            yield f"DVC's remote {name} ({url}): {trouble[0]}", trouble[1]


def _s3(bucket, about):
    """(what, fix) of what keeps a bucket from being used, or None.

    about: DVC's configuration of the remote.
    """
    try:
        import botocore.exceptions
    except ImportError:
        return "dvc-s3 is not installed", "pip install --require-hashes -r requirements-scale.txt"
    # Asked for credentials last, and for many seconds where there is no such service
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    try:
        client = _s3_client(about)
        if not client:
            return "no credentials", "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        client.head_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        return S3_ERRORS.get(code, (f"answers {code or error}", "ask who runs it"))
    except botocore.exceptions.BotoCoreError as error:
        return one_line(error), "check the network"


def _s3_client(about):
    """A client that gives up after seconds; None where there are no credentials."""
    import botocore.config
    import botocore.session

    session = botocore.session.Session(profile=about.get("profile"))
    if about.get("access_key_id"):
        session.set_credentials(
            about["access_key_id"], about.get("secret_access_key"), about.get("session_token")
        )
    if not session.get_credentials():
        return None
    region = about.get("region") or session.get_config_variable("region") or "us-east-1"
    limits = botocore.config.Config(
        connect_timeout=SERVER_TIMEOUT,
        read_timeout=SERVER_TIMEOUT,
        retries={"total_max_attempts": 1},
    )
    return session.create_client(
        "s3", region_name=region, endpoint_url=about.get("endpointurl"), config=limits
    )
