"""MLflow's own races, as several writers meet them (test_servers.py has the writers)."""

from ferlab import tracking


def test_a_dataset_that_another_writer_enters_at_the_same_moment_is_entered_again(tmp_path, monkeypatch):
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    enter, calls = mlflow.log_input, []

    def lose_the_race_once(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 1:
            raise mlflow.MlflowException("duplicate key value violates unique constraint")
        return enter(*arguments, **named)

    with tracking.store() as client:
        run = client.create_run(client.create_experiment("x", tmp_path.as_uri()))
        monkeypatch.setattr(mlflow, "log_input", lose_the_race_once)
        tracking._log_files(run.info.run_id, [], {"dataset": "faces", "digest": "0" * 32}, None)
        used, = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert used.dataset.name == "faces" and len(calls) == 2
