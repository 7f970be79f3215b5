"""Make an empty MLflow store with one experiment in it: python make_store.py FOLDER EXPERIMENT.

Runs with the MLflow that is going to write there, since each version has a database schema of its own.
"""

import sys

from mlflow import MlflowClient


def main(folder, experiment):
    MlflowClient(f"sqlite:///{folder}/mlflow.db").create_experiment(experiment, artifact_location=f"{folder}/artifacts")


if __name__ == "__main__":
    main(*sys.argv[1:])
