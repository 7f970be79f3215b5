"""Register challengers around a logged model, with the submission's own MLflow: python challengers.py PLAN ANSWER.

PLAN is JSON: {"base": FOLDER of the logged model, "like": RUN_ID whose parameters, metrics and tags each run gets, "name": of the
registered model, "weights": [FILE, ...]}. ANSWER gets the version of each, in their order. The first becomes champion.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main(plan, answer):
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    with open(plan, encoding="utf-8") as file:
        given = json.load(file)
    client = mlflow.MlflowClient()
    client.create_registered_model(given["name"])
    like = client.get_run(given["like"])
    signature = ModelSignature(Model.load(given["base"]).signature.inputs, Schema([ColSpec("double", "probability")]))
    versions = []
    for weights in given["weights"]:
        with mlflow.start_run() as run:
            mlflow.log_params(like.data.params)
            mlflow.set_tags({key: value for key, value in like.data.tags.items() if key.startswith("mlekit.")})
            mlflow.log_metrics(like.data.metrics)
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=os.path.join(HERE, "challenger.py"),
                artifacts={"base": given["base"], "weights": weights},
                code_paths=[os.path.join(HERE, "spoil.py")],
                signature=signature,
                pip_requirements=["mlflow"],
            )
        made = client.create_model_version(given["name"], logged.model_uri, run.info.run_id)
        versions.append(str(made.version))
        if len(versions) == 1:
            client.set_registered_model_alias(given["name"], "champion", made.version)
    with open(answer, "w", encoding="utf-8") as file:
        json.dump(versions, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
