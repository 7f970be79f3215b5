"""Score feature tables with logged models, in the submission's own environment and folder: python score.py PLAN ERRORS.

PLAN is JSON: [{"model": FOLDER, "features": FILE, "out": FILE}]. What goes wrong with one model is written to ERRORS,
{"0": "sentence"}, and the others go on.
"""

import json
import os
import sys


def main(plan, errors):
    sys.path[0] = os.getcwd()  # as for `python -m`: a model may need modules of its submission
    import mlflow.pyfunc
    import pandas as pd

    with open(plan, encoding="utf-8") as file:
        jobs = json.load(file)
    wrong = {}
    for number, job in enumerate(jobs):
        try:
            model = mlflow.pyfunc.load_model(job["model"])
            table = pd.read_parquet(job["features"])
            found = model.predict(table.drop(columns="row_id"))
            answer = pd.DataFrame(
                {"row_id": table["row_id"], "probability": pd.Series(found["probability"]).to_numpy()}
            )
            answer.to_parquet(job["out"], index=False)
        except Exception as problem:
            wrong[str(number)] = f"{type(problem).__name__}: {str(problem)[:600]}"
    with open(errors, "w", encoding="utf-8") as file:
        json.dump(wrong, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
